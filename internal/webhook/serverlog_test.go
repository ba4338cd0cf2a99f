package webhook

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// Strangers must not fill the log with handshakes that fail.
func TestComplaintsAreFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		complain := newServerLog(zap.New(core))
		for range 1000 {
			complain.Print("http: TLS handshake error from 192.0.2.1:4711: EOF")
		}
		assert.Equal(t, 5, logs.Len())
		assert.Equal(t, map[string]any{"reason": "http: TLS handshake error from 192.0.2.1:4711: EOF"}, logs.All()[0].ContextMap())

		time.Sleep(15 * time.Second)
		complain.Print("later")
		complain.Print("one too many")
		assert.Equal(t, 6, logs.Len(), "one each 15 s")
	})
}
