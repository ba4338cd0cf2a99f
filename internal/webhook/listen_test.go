package webhook

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A process that may bind any port cannot be made to fail for lack of permission.
func TestMendOfAForbiddenPort(t *testing.T) {
	t.Parallel()
	forbidden := fmt.Errorf("listen tcp :443: %w", os.NewSyscallError("bind", syscall.EACCES))
	assert.Contains(t, listenHint(forbidden), "CAP_NET_BIND_SERVICE")
	assert.NotContains(t, listenHint(errors.New("other")), "CAP_NET_BIND_SERVICE")
}
