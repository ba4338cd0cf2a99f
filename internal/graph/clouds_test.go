// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestCloudOf_ReturnsEndpointsAndIssuers(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		endpoint, authority string
		issuers             []string
	}{
		"global": {
			"https://graph.microsoft.com", "https://login.microsoftonline.com",
			[]string{"https://sts.windows.net/ab/", "https://login.microsoftonline.com/ab/v2.0"},
		},
		"us_gov": {
			"https://graph.microsoft.us", "https://login.microsoftonline.us",
			[]string{"https://sts.windows.net/ab/", "https://login.microsoftonline.us/ab/v2.0"},
		},
		"us_gov_dod": {
			"https://dod-graph.microsoft.us", "https://login.microsoftonline.us",
			[]string{"https://sts.windows.net/ab/", "https://login.microsoftonline.us/ab/v2.0"},
		},
		"china": {
			"https://microsoftgraph.chinacloudapi.cn", "https://login.chinacloudapi.cn",
			[]string{"https://sts.chinacloudapi.cn/ab/", "https://login.chinacloudapi.cn/ab/v2.0", "https://login.partner.microsoftonline.cn/ab/v2.0"},
		},
	} {
		cloud, ok := graph.CloudOf(name)
		require.True(t, ok, name)
		assert.Equal(t, name, cloud.Name)
		assert.Equal(t, want.endpoint, cloud.Endpoint)
		assert.Equal(t, want.authority, cloud.Authority)
		assert.Equal(t, want.issuers, cloud.Issuers("AB"))
	}
	assert.Len(t, graph.Clouds(), 4)
	_, ok := graph.CloudOf("Global")
	assert.False(t, ok)
}

func TestTokenURL_IgnoresTrailingSlash(t *testing.T) {
	t.Parallel()
	for _, authority := range []string{"https://login.example.com", "https://login.example.com/"} {
		assert.Equal(t, "https://login.example.com/ab/oauth2/v2.0/token", graph.TokenURL(authority, "ab"))
		assert.Equal(t, "https://login.example.com/common/discovery/v2.0/keys", graph.KeysURL(authority))
	}
	assert.Equal(t, "https://graph.example.com/.default", graph.DefaultScope("https://graph.example.com/"))
}
