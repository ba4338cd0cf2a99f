package subscription

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestKeyConflict_CountsNewSubscriptions(t *testing.T) {
	t.Parallel()
	one, two := listed("b1", tenantWide), listed("b2", tenantWide)
	at := func(minutes int) time.Time { return planNow.Add(time.Duration(minutes) * time.Minute) }

	c := keyConflict{}.observe(one, false, at(0))
	assert.False(t, c.confirmed(), "it may be a leftover")
	c = c.observe(one, true, at(1))
	assert.False(t, c.confirmed(), "the same one again proves nothing")
	c = c.observe(two, true, at(2))
	assert.True(t, c.confirmed(), "another one was created")
	assert.False(t, c.deferred(at(2)))
	c = c.observe(one, true, at(3)).observe(one, true, at(50))
	assert.True(t, c.deferred(at(62)))
	assert.False(t, c.deferred(at(63)), "an hour after it was first seen")
	assert.Equal(t, at(50), c.lastSeen)

	assert.True(t, keyConflict{}.observe(one, true, at(0)).confirmed(), "one that replaced our own is not a leftover")
}

func TestBackoff_StaysWithinBounds(t *testing.T) {
	t.Parallel()
	for failures := range 1000 {
		wait := backoff(failures)
		assert.GreaterOrEqual(t, wait, time.Second)
		assert.LessOrEqual(t, wait, 5*time.Minute)
	}
	assert.GreaterOrEqual(t, backoff(20), 150*time.Second)
}

func TestInbox_IsBounded(t *testing.T) {
	t.Parallel()
	i := newInbox()
	for n := range maxPending + 100 {
		i.put(Event{SubscriptionID: strconv.Itoa(n), Kind: Missed})
	}
	i.put(Event{SubscriptionID: "1", Kind: SubscriptionRemoved})
	pending := i.drain()
	assert.Len(t, pending, maxPending)
	assert.Equal(t, pendingEvents{removed: true, missed: true}, pending["1"], "a pending subscription accepts further events")
	assert.Empty(t, i.drain())
}

func TestManager_PrunesUnlistedSubscriptions(t *testing.T) {
	t.Parallel()
	m := New(Settings{Known: []Known{{ID: "a"}, {ID: "b"}}})
	m.gone["b"], m.gone["c"] = true, true
	m.prune([]graph.Subscription{{ID: "a"}})
	assert.Equal(t, map[string]string{"a": ""}, m.known)
	assert.Empty(t, m.gone)
	assert.True(t, m.knownChanged)
}

func TestHostOf_ReturnsHostOnly(t *testing.T) {
	t.Parallel()
	for target, host := range map[string]string{
		"https://a.example.com:8443/x?code=1":                                  "a.example.com:8443",
		"https://user:pw@a.example.com/x":                                      "a.example.com",
		"EventHub:https://ns.servicebus.windows.net/eventhubname/h?tenantId=t": "ns.servicebus.windows.net",
		"EventGrid:?x=1": "unknown",
		"%":              "unknown",
		"":               "unknown",
	} {
		assert.Equal(t, host, hostOf(target), target)
	}
}
