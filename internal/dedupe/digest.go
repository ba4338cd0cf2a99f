package dedupe

import (
	"crypto/sha256"
	"strings"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// digest stands for a key or a signature in the window: the first half of a SHA-256. That two of ten million were equal
// has a probability below 10^-24.
type digest [16]byte

func digestOf(parts ...string) digest {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x1f")))
	return digest(sum[:16])
}

// entryKey is what one interaction is known by.
type entryKey struct {
	key digest
	// signature is zero where the interaction came without one.
	signature digest
	// deletion is the deletion of this interaction whatever its version. It is zero unless one of the next two is true.
	deletion digest
	// deletes is true for what leaves such a deletion behind.
	deletes bool
	// supersededByDelete is true for what is a duplicate of such a deletion: the history still has what was deleted.
	supersededByDelete bool
	source             interaction.Source
}

func entryKeyOf(r *interaction.Received) entryKey {
	key := r.Key()
	m := entryKey{
		key:       digestOf(key.Text()),
		signature: digest(r.ContentDigest[:16]),
		// Without content no session is named, so the history can't ask for it.
		deletes:            key.Deleted && !key.WithoutContent,
		supersededByDelete: r.Source == interaction.FromHistory && !key.Deleted,
		source:             r.Source,
	}
	if m.deletes || m.supersededByDelete {
		m.deletion = digestOf("deletion", key.Tenant, key.Session, key.ID)
	}
	return m
}

// appendRecords appends what the interaction leaves in the window once it was delivered.
func (m *entryKey) appendRecords(records []record) []record {
	records = append(records, record{key: m.key, signature: m.signature})
	if m.deletes {
		records = append(records, record{key: m.deletion})
	}
	return records
}
