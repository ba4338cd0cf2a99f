package backfill

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fullGapStore is a ledger with something in each of its members.
func fullGapStore() *gapStore {
	at := noon()
	late1 := failedUser{user{1, 2, 3}, at.Add(-3 * time.Hour), at}
	return &gapStore{
		maxGap: time.Hour,
		intervals: []interval{
			{kind: kindFull, from: at.Add(-time.Hour), to: at, reasons: reasonCounts{Startup: 2, Poll: 0}, due: at},
			{kind: kindSecondPass, from: at.Add(-time.Hour), to: at, reasons: reasonCounts{Startup: 1}, due: at, notBefore: at},
			{kind: kindUnknownUsers, from: at.Add(-time.Hour), to: at, reasons: reasonCounts{UsersUnknown: 1}, notBefore: at},
			{kind: kindFailedUsers, from: at.Add(-3 * time.Hour), to: at, reasons: reasonCounts{Poll: 0}, due: at, users: []failedUser{late1}, attempts: 3},
		},
		pass: &pass{id: 1<<63 + 5, began: at, newUsersOnly: true, intervals: []interval{
			{kind: kindUnknownUsers, from: at.Add(-time.Hour), to: at, reasons: reasonCounts{UsersUnknown: 1}},
		}},
		polled: at, itemsRead: at.Add(-time.Minute),
	}
}

func TestGapStore_RoundTrips(t *testing.T) {
	t.Parallel()
	value, err := fullGapStore().encode()
	require.NoError(t, err)
	read := &gapStore{maxGap: time.Hour}
	require.NoError(t, read.decode(value))
	assert.Equal(t, fullGapStore(), read)
}

func TestGapStore_RejectsInvalidValue(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(gs *gapStore){
		"an inverted interval":            func(gs *gapStore) { gs.intervals[0].to = gs.intervals[0].from.Add(-1) },
		"a time that is none":             func(gs *gapStore) { gs.intervals[0].from = time.Unix(1, 0).UTC() },
		"an unknown kind":                 func(gs *gapStore) { gs.intervals[0].kind = 9 },
		"no reason":                       func(gs *gapStore) { gs.intervals[0].reasons = nil },
		"an empty reason":                 func(gs *gapStore) { gs.intervals[0].reasons = reasonCounts{"": 1} },
		"a negative count":                func(gs *gapStore) { gs.intervals[0].reasons = reasonCounts{Startup: -1} },
		"negative attempts":               func(gs *gapStore) { gs.intervals[3].attempts = -1 },
		"a second reading without a time": func(gs *gapStore) { gs.intervals[1].due = time.Time{} },
		"no users where there must be":    func(gs *gapStore) { gs.intervals[3].users = nil },
		"users where there are none":      func(gs *gapStore) { gs.intervals[0].users = gs.intervals[3].users },
		"an inverted user":                func(gs *gapStore) { gs.intervals[3].users[0].to = noon().Add(-30 * time.Hour) },
		"a reading of nothing":            func(gs *gapStore) { gs.pass.intervals = nil },
		"a reading that never began":      func(gs *gapStore) { gs.pass.began = time.Time{} },
		"a reading of nonsense":           func(gs *gapStore) { gs.pass.intervals[0].kind = 77 },
		"polls of another century":        func(gs *gapStore) { gs.polled = time.Unix(1, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := fullGapStore()
			spoil(bad)
			value, err := bad.encode()
			require.NoError(t, err)
			read := gapStore{}
			require.ErrorIs(t, read.decode(value), errShape)
			assert.Equal(t, gapStore{}, read, "and nothing of it is")
		})
	}
}

func FuzzGapStore(f *testing.F) {
	value, err := fullGapStore().encode()
	require.NoError(f, err)
	f.Add(value)
	f.Add([]byte{formatVersion, '{', '}'})
	f.Fuzz(func(t *testing.T, value []byte) {
		gs := &gapStore{maxGap: 168 * time.Hour}
		if gs.decode(value) != nil {
			return
		}
		written, err := gs.encode()
		require.NoError(t, err)
		same := &gapStore{maxGap: gs.maxGap}
		require.NoError(t, same.decode(written))
		require.Len(t, same.intervals, len(gs.intervals))
		var c change
		now := noon()
		gs.pass = nil
		for range 20 {
			gs.expire(now, &c)
			_ = gs.missing(now)
			if gs.begin(now, now, false, &c) {
				from, to := gs.pass.bounds()
				require.True(t, from.Before(to))
				gs.finish(passResult{}, now, &c)
			}
			now = now.Add(time.Hour)
		}
	})
}

func FuzzChunkAndShard(f *testing.F) {
	f.Add(encodeChunk(7, []user{{1}, {2}}), 0)
	f.Add([]byte{formatVersion, 1}, 63)
	f.Fuzz(func(t *testing.T, value []byte, b int) {
		if id, users, err := decodeChunk(value); err == nil {
			require.Equal(t, value, encodeChunk(id, users))
			require.LessOrEqual(t, len(users), chunkUsers)
		}
		if times, err := decodeShard(value, b); err == nil {
			for u := range times {
				require.Equal(t, b, shardOf(u))
			}
		}
	})
}

func TestParseGUID_RoundTrips(t *testing.T) {
	t.Parallel()
	u, ok := parseGUID("B2A7C9E4-5d31-4f0c-8e62-7a1b3c5d9f00")
	require.True(t, ok)
	assert.Equal(t, "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00", u.String())
	for _, bad := range []string{"", "b2a7c9e4", "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f0", "b2a7c9e4-5d31-4f0c-8e62+7a1b3c5d9f00", "g2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"} {
		_, ok := parseGUID(bad)
		assert.False(t, ok, bad)
	}
}
