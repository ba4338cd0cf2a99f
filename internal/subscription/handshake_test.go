package subscription_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func TestHandshakeError_HintDependsOnAnswer(t *testing.T) {
	t.Parallel()
	const dns, login, equal, ingress = "public DNS name", "without login", "Make webhook.path that of", "leave the path as it is"
	for name, test := range map[string]struct {
		answer, path string
		want         string
	}{
		"no server answered":                       {"", "/n", dns},
		"no server answered, and the paths differ": {"", "/other", dns},
		"a server does not have the path":          {"NotFound", "/other", equal},
		"another server does not have the path":    {"NotFound", "/n", ingress},
		"a server wants a login":                   {"Unauthorized", "/n", login},
		"a server redirects":                       {"Found", "/other", login},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := &subscription.HandshakeError{
				Answer: test.answer, Path: test.path, Webhook: subscription.Webhook{Path: "/n", Address: "127.0.0.1:8443"},
				Err: &graph.Error{Status: 400, Code: "ValidationError", Message: "Subscription validation request failed."},
			}
			said := err.Hint()
			for _, one := range []string{dns, login, equal, ingress} {
				if one == test.want {
					assert.Contains(t, said, one)
				} else {
					assert.NotContains(t, said, one)
				}
			}
			assert.Contains(t, said, `Graph ask`)
			assert.Contains(t, said, `"`+test.path+`"`)
			assert.Contains(t, said, `serves "/n" (webhook.path) on 127.0.0.1:8443 (webhook.endpoint).`)
		})
	}
}
