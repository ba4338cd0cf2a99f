package subscription

import (
	"testing"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestPlanRespectsForeignSubscriptions(t *testing.T) {
	t.Parallel()
	may := facts{mayTake: map[string]bool{canonical(tenantWide): true}}
	foreign := listed("f", tenantWide, sendingTo(theirURL))
	runPlan(t, []planCase{
		{
			name: "another notification URL at our resource is in the way",
			have: []graph.Subscription{foreign}, expect: []decision{{verb: blocked, foreign: []string{"f"}}},
		},
		{
			name:   "other change types are in the way too since the quota is 1",
			have:   []graph.Subscription{listed("f", tenantWide, sendingTo(theirURL), changes("deleted"))},
			expect: []decision{{verb: blocked, foreign: []string{"f"}}},
		},
		{
			name:   "another filter is in the way too since the quota is 1",
			have:   []graph.Subscription{listed("f", "/"+tenantWide+"?$filter=appClass eq 'x'", sendingTo(theirURL))},
			expect: []decision{{verb: blocked, foreign: []string{"f"}}},
		},
		{
			name: "a certificate id like ours does not make it ours",
			have: []graph.Subscription{listed("f", tenantWide, sendingTo(theirURL+"&x=1"))}, expect: []decision{{verb: blocked, foreign: []string{"f"}}},
		},
		{
			name: "another path at our host is foreign",
			have: []graph.Subscription{listed("f", tenantWide, sendingTo(ourURL+"/"))}, expect: []decision{{verb: blocked, foreign: []string{"f"}}},
		},
		{
			name:   "nothing of ours is deleted while a foreign one would keep its successor out",
			have:   []graph.Subscription{foreign, listed("s1", tenantWide, certificate("old"))},
			expect: []decision{{verb: blocked, foreign: []string{"f"}}},
		},
		{
			name: "it is replaced where that is allowed", facts: may,
			have: []graph.Subscription{foreign}, expect: []decision{{verb: replace, foreign: []string{"f"}, reason: ReasonForeign}},
		},
		{
			name: "allowed or not, other resources of strangers are left alone", facts: may,
			have:   []graph.Subscription{foreign, listed("g", userB, sendingTo(theirURL)), listed("h", "users", sendingTo(theirURL))},
			expect: []decision{{verb: replace, foreign: []string{"f"}, reason: ReasonForeign}},
		},
		{
			name:   "one user's foreign one does not keep the other user out",
			wanted: wantedOf(userA, userB), have: []graph.Subscription{listed("f", userA, sendingTo(theirURL))},
			expect: []decision{{verb: blocked, foreign: []string{"f"}}, {verb: create}},
		},
	})
}
