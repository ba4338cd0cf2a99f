// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/receiver"
)

// lookedBack is what a receiver without a checkpoint reads of the history when it finds its subscription.
const lookedBack = "the last 5 h of history"

// checkStorage checks whether the storage extension can work, and what a copy of its file holds for the receiver.
func (t *target) checkStorage(ctx context.Context) []Check {
	if t.settings.Storage == nil {
		return t.withoutStorage()
	}
	id := *t.settings.Storage
	section, found, err := t.collector.component(extensions, id)
	if err != nil || !found {
		return []Check{skipped("the extension %s is not configured", id)}
	}
	factory := filestorage.NewFactory()
	if id.Type() != factory.Type() {
		return []Check{skipped("only a collector has the extension %s, this program looks into %s alone", id, factory.Type())}
	}
	config, _ := factory.CreateDefaultConfig().(*filestorage.Config)
	if err := section.Unmarshal(config); err != nil {
		return wrong(extensions+"::"+id.String(), err)
	}
	return t.checkFileStorage(ctx, id, config)
}

// withoutStorage says what a restart costs.
func (t *target) withoutStorage() []Check {
	lost := "none is configured: each restart reads " + lookedBack + " again"
	if t.settings.History.Rules.Disabled {
		lost = "none is configured: a restart does not know what was missed"
	}
	checks := []Check{ok("%s", lost)}
	if len(t.settings.Certificates) == 0 {
		checks = []Check{bad(Warn, failure.New(failure.KeyInMemory), "%s, and replaces the subscription", lost)}
	}
	if t.settings.Inventory > 0 {
		checks = append(checks, bad(Warn, failure.New(failure.ActivityInMemory), "none is configured: the inventory knows only prompts since the last start"))
	}
	return checks
}

// checkFileStorage looks at the directory without touching it, and at a copy of the receiver's file.
func (t *target) checkFileStorage(ctx context.Context, id component.ID, config *filestorage.Config) []Check {
	path, directory := extensions+"::"+id.String(), config.Directory
	if absolute, err := filepath.Abs(directory); err == nil && directory != "" {
		directory = absolute
	}
	var checks []Check
	if err := unwritable(directory, config.CreateDirectory); err != nil {
		checks = []Check{bad(Fail, failure.New(failure.StorageNotWritable, directory), "%s: directory %s: %v", path, directory, err)}
		if info, err := os.Stat(directory); err != nil || !info.IsDir() {
			return checks
		}
	} else if err := confmap.Validate(config); err != nil {
		checks = wrong(path, err)
	} else {
		checks = []Check{ok("this user can write to %s", directory)}
	}
	stored, err := readStored(ctx, directory, t.id, t.settings.TenantID)
	notCopied, isNotCopied := errors.AsType[*notCopiedError](err)
	switch {
	case err == nil:
		t.stored = &stored
		return append(checks, t.checkStored(&stored, time.Now())...)
	case isNotCopied:
		return append(checks, skipped("what is stored is not known: %v", notCopied))
	case errors.Is(err, fs.ErrNotExist):
		t.stored = &receiver.Stored{}
		return append(checks, ok("nothing is stored yet"))
	case errors.Is(err, fs.ErrPermission):
		return append(checks, bad(Fail, failure.New(failure.StorageNotWritable, directory),
			"%s: this user can't read and write the receiver's file, run the doctor as the collector's user: %v", path, err))
	default:
		return append(checks, bad(Fail, failure.New(failure.StorageUnreadable), "%s: %v", path, err))
	}
}

// unwritable says why a directory can't be written to by this user, nil if it can, or if it can be created where it may be.
func unwritable(directory string, create bool) error {
	info, err := os.Stat(directory)
	parent := filepath.Dir(directory)
	switch {
	case errors.Is(err, fs.ErrNotExist) && create && parent != directory:
		if err = unwritable(parent, true); err != nil {
			err = fmt.Errorf("it can't be created in %s: %w", parent, err)
		}
		return err
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("it does not exist")
	case err != nil:
		return err
	case !info.IsDir():
		return errors.New("it is not a directory")
	}
	if err := access(directory); err != nil {
		return fmt.Errorf("this user can't write to it: %w", err)
	}
	return nil
}
