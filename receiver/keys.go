package receiver

import (
	"fmt"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// loadRing reads the configured encryption keys. Without any the ring is empty, and a key is generated later: that takes
// longer than a start may.
func loadRing(certificates []Certificate) (notification.Ring, error) {
	ring := make(notification.Ring, 0, len(certificates))
	for i, certificate := range certificates {
		key, err := notification.LoadKey(certificate.ID, certificate.CertFile, certificate.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("encryption.certificates[%d]: %w", i, err)
		}
		ring = append(ring, key)
	}
	return ring, nil
}
