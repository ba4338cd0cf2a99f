// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

// operationsSection returns the text of a section of docs/operations.md, with its subsections.
func operationsSection(t *testing.T, heading string) string {
	t.Helper()
	_, section, found := strings.Cut(readFile(t, "docs/operations.md"), "\n## "+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// rowsByFirstCell returns the cells of the rows of all tables in a text, by the first cell.
func rowsByFirstCell(text string) map[string][]string {
	rows := map[string][]string{}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(strings.TrimSpace(line), "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows[cells[0]] = cells[1:]
	}
	return rows
}

func TestOperations_ListsEveryGapReason(t *testing.T) {
	t.Parallel()
	var documented []string
	for first := range rowsByFirstCell(operationsSection(t, "The history")) {
		if reason, isCode := strings.CutPrefix(first, "`"); isCode {
			documented = append(documented, strings.TrimSuffix(reason, "`"))
		}
	}
	var reasons []string
	for _, reason := range gap.Reasons() {
		reasons = append(reasons, string(reason))
	}
	assert.ElementsMatch(t, reasons, documented)
}

// TestOperations_AttributeValuesExist checks values such as `outcome: failed`, and the values that follow after "or".
func TestOperations_AttributeValuesExist(t *testing.T) {
	t.Parallel()
	known := map[string][]string{
		"outcome": constants(t, "internal/webhook", "Outcome"),
		"reason":  append(constants(t, "internal/notification", "Reason"), constants(t, "internal/gap", "Reason")...),
	}
	checked := 0
	named := regexp.MustCompile("`(outcome|reason): ([a-z_]+)`(?: or `([a-z_]+)`)?")
	for _, match := range named.FindAllStringSubmatch(readFile(t, "docs/operations.md"), -1) {
		for _, value := range match[2:] {
			if value != "" {
				assert.Contains(t, known[match[1]], value, match[0])
				checked++
			}
		}
	}
	assert.Greater(t, checked, 15)
}

// TestOperations_StatesDefaults checks each default that is written as `history.max_gap` (`168h`).
func TestOperations_StatesDefaults(t *testing.T) {
	t.Parallel()
	stated := regexp.MustCompile("`([a-z_]+\\.[a-z_.]+)` \\(`([0-9a-z]+)`").FindAllStringSubmatch(readFile(t, "docs/operations.md"), -1)
	assert.Greater(t, len(stated), 5)
	for _, match := range stated {
		retrieved, err := confmap.NewRetrievedFromYAML([]byte(match[2]))
		require.NoError(t, err, match[0])
		value, err := retrieved.AsRaw()
		require.NoError(t, err, match[0])
		c := createDefaultConfig()
		require.NoError(t, confmap.NewFromStringMap(nested(match[1], value)).Unmarshal(c), match[0])
		assert.Equal(t, createDefaultConfig(), c, "the default of %s is another", match[1])
	}
}

// TestOperations_SizingFollowsFormulas computes the table anew, with the formulas below it and the defaults.
func TestOperations_SizingFollowsFormulas(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	defaults := createDefaultConfig().(*Config)
	require.InDelta(t, 25, defaults.History.RequestsPerSecond, 0, "in the formula of the reconciliation")
	covered := defaultReconcileInterval + defaults.History.Reconcile.Delay
	require.Equal(t, 29*time.Hour+30*time.Minute, covered, "31 hours in the formula of the entries leave 90 minutes for the reading")
	require.EqualValues(t, 64*mib, defaults.Webhook.MaxInFlightBytes, "a part of 250 MiB in the formula of the memory")
	section := operationsSection(t, "Sizing")
	rows := rowsByFirstCell(section)
	for n, users := range []float64{1_000, 10_000, 100_000} {
		daily := 40 * users
		entries := daily * 31 / 24
		setting, queue := "default", "default of the example"
		if entries > float64(defaults.Dedupe.MaxEntries) {
			setting = grouped(roundUp(entries, 100_000))
		}
		if daily > 1_000_000 { // that of examples/durable.yaml
			queue = grouped(daily)
		}
		require.LessOrEqual(t, entries, float64(dedupe.MaxEntries))
		for name, want := range map[string]string{
			"licensed users": grouped(users),
			"interactions a day, 20 prompts and 20 answers of each": grouped(daily),
			"entries needed in the dedupe cache":                    grouped(entries),
			"`dedupe.max_entries`":                                  setting,
			"`history.requests_per_second`":                         "default",
			"reconciliation, each day":                              grouped(users/25) + " s",
			"processors in the busiest hour":                        fmt.Sprintf("%.1g", 1.35*0.002*daily/10/3600),
			"limit of memory":                                       grouped(roundUp((250*mib+2*(190*entries+1330*users+40*mib))/mib, 100)) + " MiB",
			"disk for the receiver's storage":                       grouped(roundUp((50*mib+90*entries+250*users)/mib, 10)) + " MiB",
			"disk for a day without the backend":                    grouped(roundUp(2200*daily/mib, 10)) + " MiB",
			"`sending_queue.queue_size` for that day":               queue,
		} {
			require.Contains(t, rows, name)
			assert.Equal(t, want, rows[name][n], "%s of %.0f users", name, users)
		}
	}
	for _, formula := range []string{
		"interactions a day * 31 / 24\n", "users / 25, in seconds\n", "1.35 * 2 ms * interactions a second,",
		"250 MiB + 2 * (190 * entries + 1330 * users + 40 MiB), in bytes\n", "50 MiB + 90 * entries + 250 * users, in bytes\n",
		"2200 * interactions a day, in bytes;",
	} {
		assert.Contains(t, section, "= "+formula)
	}
	assert.Contains(t, readFile(t, "examples/durable.yaml"), "\n      queue_size: 1000000\n")
}

func roundUp(value, step float64) float64 { return math.Ceil(value/step) * step }

// grouped writes a rounded number with commas, such as 5,166,667.
func grouped(value float64) string {
	digits := strconv.FormatInt(int64(math.Round(value)), 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func TestOperations_NamesTestsThatExist(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*_[A-Za-z0-9]+)`").FindAllStringSubmatch(readFile(t, "docs/operations.md"), -1)
	require.Len(t, named, 6)
	var all strings.Builder
	require.NoError(t, filepath.WalkDir("internal", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	}))
	for _, match := range named {
		if !strings.Contains(all.String(), "\nfunc "+match[1]+"(") {
			assert.Failf(t, "a test is named that does not exist", match[1])
		}
	}
}
