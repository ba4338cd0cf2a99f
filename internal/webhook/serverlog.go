package webhook

import (
	"bytes"
	"log"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

// complaints is where net/http writes what it cannot tell a caller: failed TLS handshakes, panics. Anybody on the
// internet can cause the former, so they are logged at most a few times each minute; an unreadable certificate, which
// fails every handshake, still shows.
type complaints struct {
	logger *zap.Logger
	limit  *rate.Limiter
}

// Some complaints may come at once, such as those of one broken client.
const (
	complaintsAtOnce = 5
	complaintsEvery  = 15 * time.Second
)

// sampled drops a message that comes too often within a minute.
func sampled(core zapcore.Core) zapcore.Core {
	return zapcore.NewSamplerWithOptions(core, time.Minute, complaintsAtOnce, 0)
}

func newServerLog(logger *zap.Logger) *log.Logger {
	return log.New(&complaints{
		logger: logger,
		limit:  rate.NewLimiter(rate.Every(complaintsEvery), complaintsAtOnce),
	}, "", 0)
}

func (c *complaints) Write(line []byte) (int, error) {
	if c.limit.Allow() {
		c.logger.Warn("webhook: a connection failed", zap.ByteString("reason", bytes.TrimSpace(line)))
	}
	return len(line), nil
}
