package history

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// everything is a ledger with something in each of its members.
func everything() *ledger {
	at := noon()
	late1 := laggard{user{1, 2, 3}, at.Add(-3 * time.Hour), at}
	return &ledger{
		maxGap: time.Hour,
		spans: []span{
			{kind: whole, from: at.Add(-time.Hour), to: at, reasons: tally{Startup: 2, Poll: 0}, due: at},
			{kind: again, from: at.Add(-time.Hour), to: at, reasons: tally{Startup: 1}, due: at, anchor: at},
			{kind: unknown, from: at.Add(-time.Hour), to: at, reasons: tally{UsersUnknown: 1}, anchor: at},
			{kind: late, from: at.Add(-3 * time.Hour), to: at, reasons: tally{Poll: 0}, due: at, users: []laggard{late1}, attempts: 3},
		},
		reading: &reading{id: 1<<63 + 5, began: at, newcomers: true, parts: []span{
			{kind: unknown, from: at.Add(-time.Hour), to: at, reasons: tally{UsersUnknown: 1}},
		}},
		polled: at, itemsRead: at.Add(-time.Minute),
	}
}

func TestALedgerIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	value, err := everything().encode()
	require.NoError(t, err)
	read := &ledger{maxGap: time.Hour}
	require.NoError(t, read.decode(value))
	assert.Equal(t, everything(), read)
}

func TestALedgerThatMakesNoSenseIsNotTakenOver(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(l *ledger){
		"an inverted interval":            func(l *ledger) { l.spans[0].to = l.spans[0].from.Add(-1) },
		"a time that is none":             func(l *ledger) { l.spans[0].from = time.Unix(1, 0).UTC() },
		"an unknown kind":                 func(l *ledger) { l.spans[0].kind = 9 },
		"no reason":                       func(l *ledger) { l.spans[0].reasons = nil },
		"an empty reason":                 func(l *ledger) { l.spans[0].reasons = tally{"": 1} },
		"a negative count":                func(l *ledger) { l.spans[0].reasons = tally{Startup: -1} },
		"negative attempts":               func(l *ledger) { l.spans[3].attempts = -1 },
		"a second reading without a time": func(l *ledger) { l.spans[1].due = time.Time{} },
		"no users where there must be":    func(l *ledger) { l.spans[3].users = nil },
		"users where there are none":      func(l *ledger) { l.spans[0].users = l.spans[3].users },
		"an inverted user":                func(l *ledger) { l.spans[3].users[0].to = noon().Add(-30 * time.Hour) },
		"a reading of nothing":            func(l *ledger) { l.reading.parts = nil },
		"a reading that never began":      func(l *ledger) { l.reading.began = time.Time{} },
		"a reading of nonsense":           func(l *ledger) { l.reading.parts[0].kind = 77 },
		"polls of another century":        func(l *ledger) { l.polled = time.Unix(1, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := everything()
			spoil(bad)
			value, err := bad.encode()
			require.NoError(t, err)
			read := ledger{}
			require.ErrorIs(t, read.decode(value), errShape)
			assert.Equal(t, ledger{}, read, "and nothing of it is")
		})
	}
}

func FuzzLedger(f *testing.F) {
	value, err := everything().encode()
	require.NoError(f, err)
	f.Add(value)
	f.Add([]byte{formatVersion, '{', '}'})
	f.Fuzz(func(t *testing.T, value []byte) {
		l := &ledger{maxGap: 168 * time.Hour}
		if l.decode(value) != nil {
			return
		}
		written, err := l.encode()
		require.NoError(t, err)
		same := &ledger{maxGap: l.maxGap}
		require.NoError(t, same.decode(written))
		require.Len(t, same.spans, len(l.spans))
		var c change
		now := noon()
		l.reading = nil
		for range 20 {
			l.expire(now, &c)
			_ = l.missing(now)
			if l.begin(now, now, false, &c) {
				from, to := l.reading.bounds()
				require.True(t, from.Before(to))
				l.finish(ending{}, now, &c)
			}
			now = now.Add(time.Hour)
		}
	})
}

func FuzzChunkAndBoard(f *testing.F) {
	f.Add(encodeChunk(7, []user{{1}, {2}}), 0)
	f.Add([]byte{formatVersion, 1}, 63)
	f.Fuzz(func(t *testing.T, value []byte, b int) {
		if id, users, err := decodeChunk(value); err == nil {
			require.Equal(t, value, encodeChunk(id, users))
			require.LessOrEqual(t, len(users), chunkUsers)
		}
		if times, err := decodeBoard(value, b); err == nil {
			for u := range times {
				require.Equal(t, b, boardOf(u))
			}
		}
	})
}

func TestGUIDsAreReadAndWritten(t *testing.T) {
	t.Parallel()
	u, ok := parseGUID("B2A7C9E4-5d31-4f0c-8e62-7a1b3c5d9f00")
	require.True(t, ok)
	assert.Equal(t, "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00", u.String())
	for _, bad := range []string{"", "b2a7c9e4", "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f0", "b2a7c9e4-5d31-4f0c-8e62+7a1b3c5d9f00", "g2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"} {
		_, ok := parseGUID(bad)
		assert.False(t, ok, bad)
	}
}
