package main

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSimulate_RolesFlag(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"as they come": {nil, []string{"AiEnterpriseInteraction.Read.All", "User.Read.All"}},
		"others":       {[]string{"-roles", "A, B"}, []string{"A", "B"}},
		"none":         {[]string{"-roles", ""}, []string{}},
	} {
		o, err := parseSimulate(c.args, io.Discard, io.Discard)
		require.NoError(t, err, name)
		assert.Equal(t, c.want, o.settings.Roles, name)
	}
}

func TestSimulate_EnforcesRoles(t *testing.T) {
	t.Parallel()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	p := runInBackground(ctx, t, "simulate", "-listen", "127.0.0.1:0", "-roles", "User.Read.All")
	graph := p.expect(`msg=listening graph_endpoint=(\S+)`)[1]
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, graph+"/v1.0/copilot/users/x/interactionHistory/getAllEnterpriseInteractions", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+(&fakeCollector{t: t}).login(graph))
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	assert.Equal(t, http.StatusForbidden, response.StatusCode)
	end()
	p.expect(`msg=summary .*history_requests=1`)
	assert.Equal(t, exitOK, <-p.done)
}
