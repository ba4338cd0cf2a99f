// SPDX-License-Identifier: Apache-2.0

package dedupe_test

import (
	"crypto/sha256"
	"math/big"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// randomChange returns a change of one of a few interactions.
func randomChange(random *rand.Rand) interaction.Received {
	r := item(strconv.Itoa(1 + random.IntN(3)))
	r.SessionID = "session" + strconv.Itoa(random.IntN(2))
	r = version(r, []string{"", "1", "5", "5", "10", "11", "x", "y"}[random.IntN(8)])
	switch random.IntN(6) {
	case 0, 1:
		r.Change = interaction.Updated
	case 2:
		r.Change = interaction.Deleted
		if random.IntN(2) == 0 {
			r = tombstone("subscription", r.ID)
		}
	}
	if !r.WithoutContent {
		// Graph sends the same notification again, or encrypts it anew.
		r.ContentDigest = sha256.Sum256([]byte(r.Key().Text() + string(r.Change) + r.ETag + strconv.Itoa(random.IntN(2))))
		if random.IntN(3) == 0 {
			r = fromHistory(r)
		}
	}
	return r
}

// model keeps all that was delivered of each interaction, in order.
type model map[interaction.Key][]interaction.Received

// decide states the rules over everything that was delivered.
func (m model) decide(r interaction.Received) (interaction.Change, bool) {
	delivered := map[interaction.Change]bool{}
	newest := ""
	for _, one := range m[r.Key()] {
		delivered[one.Change] = true
		if r.ContentDigest != ([32]byte{}) && one.ContentDigest == r.ContentDigest {
			return "", false
		}
		if one.Change != interaction.Deleted {
			newest = newestETag(newest, one)
		}
	}
	change := r.Change
	if r.Source == interaction.FromHistory {
		change = interaction.Created
		if delivered[interaction.Created] {
			change = interaction.Updated
		}
		if delivered[interaction.Deleted] {
			return "", false
		}
	}
	if change != interaction.Updated {
		return change, !delivered[change]
	}
	if delivered[interaction.Deleted] {
		return "", false
	}
	etag := etagOf(r)
	known, numbers := big.NewInt(0).SetString(newest, 10)
	sent, number := big.NewInt(0).SetString(etag, 10)
	switch {
	case r.Source == interaction.FromNotification && (r.ETag == "" || newest == ""):
		return change, true
	case numbers && number:
		return change, sent.Cmp(known) > 0
	default:
		return change, r.Source == interaction.FromNotification && etag != newest
	}
}

func newestETag(newest string, r interaction.Received) string {
	known, numbers := big.NewInt(0).SetString(newest, 10)
	sent, number := big.NewInt(0).SetString(etagOf(r), 10)
	if numbers && number && sent.Cmp(known) < 0 {
		return newest
	}
	return etagOf(r)
}

func etagOf(r interaction.Received) string {
	if r.ETag == "" {
		return r.ID
	}
	return r.ETag
}

// take returns what a batch delivers. An interaction that is in the batch twice is decided anew.
func (m model) take(batch []interaction.Received) (delivered []interaction.Received) {
	for len(batch) > 0 {
		inFlight := map[interaction.Key]bool{}
		var again, now []interaction.Received
		for _, r := range batch {
			change, isNew := m.decide(r)
			if !isNew {
				continue
			}
			if inFlight[r.Key()] {
				again = append(again, r)
				continue
			}
			r.Change, inFlight[r.Key()] = change, true
			now = append(now, r)
		}
		for _, r := range now {
			m[r.Key()] = append(m[r.Key()], r)
		}
		delivered, batch = append(delivered, now...), again
	}
	return delivered
}

// summary is what of an interaction a test compares.
func summary(received []interaction.Received) (all []string) {
	for i := range received {
		r := &received[i]
		all = append(all, string(r.Source)+" "+string(r.Change)+" "+r.Key().Text()+" "+r.ETag)
	}
	return all
}

// seeds returns how many random cases are tried: a tenth with -short.
func seeds(most uint64) uint64 {
	if testing.Short() {
		return most / 10
	}
	return most
}

func TestCache_AgreesWithNaiveModel(t *testing.T) {
	t.Parallel()
	for seed := range seeds(300) {
		synctest.Test(t, func(t *testing.T) {
			random, client, m := rand.New(rand.NewPCG(seed, 1)), newFakeClient(), model{}
			c, _ := load(t, client, nil)
			stop := run(t, c)
			for step := range 60 {
				var batch []interaction.Received
				for range 1 + random.IntN(4) {
					batch = append(batch, randomChange(random))
				}
				p := newPipeline(c)
				if random.IntN(5) == 0 {
					p.err = errBusy
					_ = p.take(t.Context(), batch...)
					p.err = nil
				}
				require.NoError(t, p.take(t.Context(), batch...))
				require.Equal(t, summary(m.take(batch)), summary(p.got), "seed %d, step %d", seed, step)
				if random.IntN(10) == 0 {
					awaitWritten()
					stop()
					if random.IntN(2) == 0 {
						require.NoError(t, c.Save(t.Context()))
					}
					c, _ = load(t, client, nil)
					stop = run(t, c)
				}
			}
			stop()
			checkDelivered(t, m, seed)
		})
	}
}

// checkDelivered states what holds whatever was received.
func checkDelivered(t *testing.T, m model, seed uint64) {
	t.Helper()
	for key, all := range m {
		uids, deleted, numbers := map[string]bool{}, false, true
		for i := range all {
			r := &all[i]
			numbers = numbers && r.ETag != "" && r.ETag < "a"
			exact := r.Change != interaction.Updated || numbers // others only their content tells apart
			require.False(t, uids[r.UID()] && exact, "seed %d: %s %s twice", seed, key.Text(), r.Change)
			require.False(t, deleted && r.Source == interaction.FromHistory, "seed %d: %s resurrected", seed, key.Text())
			uids[r.UID()], deleted = true, deleted || r.Change == interaction.Deleted
		}
	}
}

// In concurrent calls of which some fail, what a call was told to be delivered is delivered, once.
func TestCache_DeliversOnceConcurrently(t *testing.T) {
	t.Parallel()
	for seed := range seeds(100) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			c := newCache(t, nil)
			var mu sync.Mutex
			var all []interaction.Received
			accepted := map[interaction.Key]bool{}
			var calls sync.WaitGroup
			for range 60 {
				var batch []interaction.Received
				for range 1 + random.IntN(4) {
					batch = append(batch, randomChange(random))
				}
				begin, takes, failed := random.IntN(100), random.IntN(20), random.IntN(4) == 0
				calls.Go(func() {
					time.Sleep(time.Duration(begin) * time.Millisecond)
					p := newPipeline(c)
					p.outcome = func() error {
						time.Sleep(time.Duration(takes) * time.Millisecond)
						if failed {
							return errBusy
						}
						return nil
					}
					err := p.take(t.Context(), batch...)
					mu.Lock()
					defer mu.Unlock()
					all = append(all, p.got...)
					for i := range batch {
						accepted[batch[i].Key()] = accepted[batch[i].Key()] || err == nil
					}
				})
			}
			calls.Wait()
			counts := map[interaction.Key]map[interaction.Change]int{}
			for i := range all {
				key := all[i].Key()
				if counts[key] == nil {
					counts[key] = map[interaction.Change]int{}
				}
				counts[key][all[i].Change]++
			}
			for key, ok := range accepted {
				assert.True(t, !ok || len(counts[key]) > 0, "seed %d: %s", seed, key.Text())
			}
			for key, of := range counts {
				assert.LessOrEqual(t, of[interaction.Created], 1, "seed %d: %s", seed, key.Text())
				assert.LessOrEqual(t, of[interaction.Deleted], 1, "seed %d: %s", seed, key.Text())
			}
			// Nothing is in flight or forgotten. What waits for another of its kind is decided once that one has ended.
			for left := all; len(left) > 0; {
				r := c.Reserve(t.Context(), left)
				for _, again := range r.New {
					assert.Equal(t, interaction.Updated, again.Change)
				}
				r.Release()
				var err error
				left, err = r.Wait(t.Context())
				require.NoError(t, err)
			}
		})
	}
}
