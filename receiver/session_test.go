package receiver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func TestSession_EndReleasesWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSession(zap.NewNop(), nil, nil)
		done := make(chan error)
		go func() {
			_, err := s.Decrypt(context.Background(), &notification.Collection{}, time.Now())
			done <- err
		}()
		synctest.Wait()
		s.end()
		require.ErrorIs(t, <-done, errNoKey)
	})
}
