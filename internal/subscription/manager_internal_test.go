// SPDX-License-Identifier: Apache-2.0

package subscription

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestRetry_WaitsUpToFiveMinutes(t *testing.T) {
	t.Parallel()
	r := newRetry("tenant")
	for failures := range 1000 {
		r.failed(planNow, opList, errors.New("failed"), 0)
		wait := r.next.Sub(planNow)
		switch {
		case failures < 3:
			assert.Equal(t, time.Second<<failures, wait, "the first waits have no jitter")
		case failures > 9:
			assert.GreaterOrEqual(t, wait, 4*time.Minute)
		}
		assert.LessOrEqual(t, wait, 5*time.Minute)
	}
	r.succeeded()
	assert.True(t, r.due(planNow))
	r.failed(planNow, opList, errors.New("failed"), 0)
	assert.Equal(t, time.Second, r.next.Sub(planNow), "after a success it begins anew")
}

func TestInbox_IsBounded(t *testing.T) {
	t.Parallel()
	i := newInbox()
	for n := range maxPending + 100 {
		i.put(Event{SubscriptionID: strconv.Itoa(n), Kind: Missed})
	}
	assert.Len(t, i.takeEvents(), maxPending)
	assert.Empty(t, i.takeEvents())
}

func TestManager_ForgetsUnlistedSubscriptions(t *testing.T) {
	t.Parallel()
	m := New(Settings{})
	m.own("a")
	m.own("b")
	m.own("c").gone = true
	m.updateOwned([]graph.Subscription{{ID: "a"}}, planNow)
	assert.Equal(t, owned("a", ""), m.owned)
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
		assert.Equal(t, host, HostOf(target), target)
	}
}
