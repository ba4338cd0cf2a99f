// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// jwks reads the key set with a different library from the one that signs.
func (g *client) jwks(path string) jose.JSONWebKeySet {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, g.url+path, http.NoBody)
	require.NoError(g.t, err)
	response, err := http.DefaultClient.Do(r)
	require.NoError(g.t, err)
	defer func() { _ = response.Body.Close() }()
	var set jose.JSONWebKeySet
	require.NoError(g.t, json.NewDecoder(response.Body).Decode(&set))
	return set
}

// verify checks the signature and returns the claims and the id of the key.
func verify(t *testing.T, set jose.JSONWebKeySet, token string) (map[string]any, string, error) {
	t.Helper()
	parsed, err := josejwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	require.NoError(t, err)
	claims := map[string]any{}
	err = parsed.Claims(set, &claims)
	return claims, parsed.Headers[0].KeyID, err
}

func TestValidationToken_HasClaimsOfVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[int]map[string]any{
		1: {"ver": "1.0", "iss": "https://sts.windows.net/" + tenantID + "/", "appid": graphtest.Publisher, "azp": nil},
		2: {"ver": "2.0", "iss": "https://login.microsoftonline.com/" + tenantID + "/v2.0", "azp": graphtest.Publisher, "appid": nil},
	} {
		g := start(t, func(s *graphtest.Settings) { s.ValidationTokenVersion = version })
		claims, kid, err := verify(t, g.jwks("/common/discovery/v2.0/keys"), g.Token(nil))
		require.NoError(t, err)
		assert.Equal(t, g.CurrentKeyID(), kid)
		want["aud"], want["tid"] = clientID, tenantID
		for name, value := range want {
			assert.Equal(t, value, claims[name], name)
		}
		assert.InDelta(t, 24*60*60, claims["exp"].(float64)-claims["iat"].(float64), 0)
		assert.InDelta(t, time.Now().Unix(), claims["nbf"], 10)
	}
}

func TestKeys_ArePublishedUnderEveryAuthority(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	token := g.Token(nil)
	for _, path := range []string{
		"/common/discovery/keys", "/common/discovery/v2.0/keys", "/" + tenantID + "/discovery/keys", "/organizations/discovery/v2.0/keys",
	} {
		_, _, err := verify(t, g.jwks(path), token)
		require.NoError(t, err, path)
	}
	for _, path := range []string{"/other/discovery/keys", "/other/.well-known/openid-configuration"} {
		status, answer := g.call(http.MethodGet, path, nil)
		assert.Equal(t, http.StatusBadRequest, status)
		assert.Equal(t, []any{90002.0}, answer["error_codes"])
	}
}

func TestMetadata_NamesIssuerAndKeys(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	for path, want := range map[string][2]string{
		"/common/.well-known/openid-configuration":                {"https://sts.windows.net/{tenantid}/", "/common/discovery/keys"},
		"/common/v2.0/.well-known/openid-configuration":           {"https://login.microsoftonline.com/{tenantid}/v2.0", "/common/discovery/v2.0/keys"},
		"/" + tenantID + "/.well-known/openid-configuration":      {"https://sts.windows.net/" + tenantID + "/", "/" + tenantID + "/discovery/keys"},
		"/" + tenantID + "/v2.0/.well-known/openid-configuration": {"https://login.microsoftonline.com/" + tenantID + "/v2.0", "/" + tenantID + "/discovery/v2.0/keys"},
	} {
		status, answer := g.call(http.MethodGet, path, nil)
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, want[0], answer["issuer"], path)
		assert.Equal(t, g.url+want[1], answer["jwks_uri"], path)
	}
}

func TestSettings_URLReplacesHost(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.URL = "https://graph.example/" })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/common/.well-known/openid-configuration", http.NoBody)
	require.NoError(t, err)
	_, _, answer := g.do(r)
	assert.Equal(t, "https://graph.example/common/discovery/keys", answer["jwks_uri"])
	form := g.tokenForm()
	form.Set("scope", "https://graph.example/.default")
	status, granted := g.postToken(tenantID, form, nil)
	require.Equal(t, http.StatusOK, status)
	g.token = granted["access_token"].(string)
	status, _ = g.call(http.MethodGet, "/v1.0/subscriptions", nil)
	assert.Equal(t, http.StatusOK, status)
}

func TestRotateKeys_KeepsOldKeysUntilRetired(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	first, token := g.CurrentKeyID(), g.Token(nil)
	second := g.RotateKeys()
	assert.NotEqual(t, first, second)
	assert.Equal(t, second, g.CurrentKeyID())
	_, _, err := verify(t, g.jwks("/common/discovery/keys"), token)
	require.NoError(t, err)
	_, kid, err := verify(t, g.jwks("/common/discovery/keys"), g.Token(nil))
	require.NoError(t, err)
	assert.Equal(t, second, kid)
	g.RetireKeys()
	set := g.jwks("/common/discovery/keys")
	assert.Len(t, set.Keys, 1)
	_, _, err = verify(t, set, token)
	require.Error(t, err)
}

func TestRotateKeys_PublishesAtMostThreeKeys(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	for range 4 {
		g.RotateKeys()
	}
	set := g.jwks("/common/discovery/keys")
	require.Len(t, set.Keys, 3)
	assert.Equal(t, g.CurrentKeyID(), set.Keys[0].KeyID)
}

func TestValidationToken_IsReusedUntilNearExpiry(t *testing.T) {
	t.Parallel()
	g, short := start(t, nil), start(t, func(s *graphtest.Settings) { s.ValidationTokenLifetime = time.Nanosecond })
	for _, emulator := range []*client{g, short} {
		emulator.subscribe(newEndpoint(t), nil)
	}
	token := func(g *client) string {
		c, err := g.Collection(promptAndResponse[0])
		require.NoError(t, err)
		require.Len(t, c.ValidationTokens, 1)
		return c.ValidationTokens[0]
	}
	cached := token(g)
	assert.Equal(t, cached, token(g))
	g.SetValidationTokenVersion(1)
	other := token(g)
	assert.NotEqual(t, cached, other)
	g.RotateKeys()
	assert.NotEqual(t, other, token(g))
	first, second := token(short), token(short)
	assert.NotEqual(t, first, second)
}

func TestValidationToken_UsesNotificationURLAppID(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	g.subscribe(newEndpoint(t), with("notificationUrlAppId", "another application"))
	c, err := g.Collection(promptAndResponse[0])
	require.NoError(t, err)
	claims, _, err := verify(t, g.jwks("/common/discovery/keys"), c.ValidationTokens[0])
	require.NoError(t, err)
	assert.Equal(t, "another application", claims["aud"])
}
