package webhook

import (
	"bytes"
	"log"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

// limitedLog is where net/http writes what it cannot tell a caller: failed TLS handshakes, panics. Anybody on the
// internet can cause the former, so they are logged at most a few times each minute; an unreadable certificate, which
// fails every handshake, still shows.
type limitedLog struct {
	logger *zap.Logger
	limit  *rate.Limiter
}

// Some complaints may come at once, such as those of one broken client.
const (
	limitedLogBurst    = 5
	limitedLogInterval = 15 * time.Second
)

// sampled drops a message that comes too often within a minute.
func sampled(core zapcore.Core) zapcore.Core {
	return zapcore.NewSamplerWithOptions(core, time.Minute, limitedLogBurst, 0)
}

func newServerLog(logger *zap.Logger) *log.Logger {
	return log.New(&limitedLog{
		logger: logger,
		limit:  rate.NewLimiter(rate.Every(limitedLogInterval), limitedLogBurst),
	}, "", 0)
}

func (c *limitedLog) Write(line []byte) (int, error) {
	if c.limit.Allow() {
		c.logger.Warn("webhook: a connection failed", zap.ByteString("reason", bytes.TrimSpace(line)))
	}
	return len(line), nil
}
