package notification_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func TestTheAuthorityIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		asked string
		wait  time.Duration
	}{
		"seconds":               {"90", 90 * time.Second},
		"a date":                {"in ninety seconds", 90 * time.Second},
		"less than the backoff": {"0", time.Second},
		"longer than is good":   {"2000000000", time.Hour},
		"nonsense":              {"soon", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &authority{body: jwks(t, "a"), refusal: test.asked}
				if name == "a date" {
					server.refusal = time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
				}
				set := server.keySet()
				defer set.Close()
				_, err := set.Key(t.Context(), "a")
				require.ErrorIs(t, err, notification.ErrKeysUnavailable)
				require.ErrorContains(t, err, "429")
				time.Sleep(test.wait - time.Millisecond)
				_, err = set.Key(t.Context(), "a")
				require.ErrorIs(t, err, notification.ErrKeysUnavailable)
				assert.EqualValues(t, 1, server.calls.Load())

				server.mu.Lock()
				server.refusal = ""
				server.mu.Unlock()
				time.Sleep(time.Millisecond)
				_, err = set.Key(t.Context(), "a")
				require.NoError(t, err)
			})
		})
	}
}
