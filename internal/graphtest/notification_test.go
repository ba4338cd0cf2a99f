// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestPost_SendsModifiedNotification(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.subscribe(e, nil)
	c, err := g.Collection(promptAndResponse...)
	require.NoError(t, err)
	require.Len(t, c.Value, 2)
	c.Value[0].ClientState = "guessed"
	c.ValidationTokens = []string{g.Token(func(claims map[string]any) { claims["aud"] = "another application" })}
	status, err := g.Post(t.Context(), c)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status)
	posts, opened := e.received()
	assert.Equal(t, []graphtest.Collection{c}, posts)
	assert.Equal(t, []string{prompt, response}, opened)
	claims, _, err := verify(t, g.jwks("/common/discovery/keys"), posts[0].ValidationTokens[0])
	require.NoError(t, err)
	assert.Equal(t, "another application", claims["aud"])
}

func TestPostRaw_SendsAnyBytes(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	_, err := g.PostRaw(t.Context(), []byte("{"), nil)
	require.ErrorIs(t, err, graphtest.ErrNoSubscription)
	_, err = g.LifecycleCollection(graphtest.Missed)
	require.ErrorIs(t, err, graphtest.ErrNoSubscription)
	g.subscribe(e, nil)
	e.answerWith(func(w http.ResponseWriter, r *http.Request, _ int) {
		assert.Equal(t, "text/xml", r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusTeapot)
	})
	status, err := g.PostRaw(t.Context(), []byte("<"), http.Header{"content-type": {"text/xml"}})
	require.NoError(t, err)
	assert.Equal(t, http.StatusTeapot, status)
	_, err = g.PostTo(t.Context(), "https://127.0.0.1:1/", nil, nil)
	require.Error(t, err)
	_, err = g.PostTo(t.Context(), ":", nil, nil)
	require.Error(t, err)
}

func TestLifecycleCollection_NamesSubscription(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	c, err := g.LifecycleCollection(graphtest.Missed)
	require.NoError(t, err)
	assert.Equal(t, "missed", c.Value[0].LifecycleEvent)
	assert.Equal(t, s.ID, c.Value[0].SubscriptionID)
	assert.Empty(t, c.ValidationTokens)
}

func TestSignWith_AcceptsAnyMethodAndKey(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	none, err := graphtest.SignWith(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, g.CurrentKeyID(), g.Claims())
	require.NoError(t, err)
	assert.Regexp(t, `\.$`, none)
	symmetric, err := graphtest.SignWith(jwt.SigningMethodHS256, []byte("key"), "", g.Claims())
	require.NoError(t, err)
	parsed, _, err := jwt.NewParser().ParseUnverified(symmetric, jwt.MapClaims{})
	require.NoError(t, err)
	assert.Equal(t, "HS256", parsed.Header["alg"])
	assert.NotContains(t, parsed.Header, "kid")
	_, err = graphtest.SignWith(jwt.SigningMethodRS256, "no key", "", g.Claims())
	require.Error(t, err)
}

func TestSeal_RequiresRSACertificate(t *testing.T) {
	t.Parallel()
	_, err := graphtest.Seal([]byte("noise"), "id", nil)
	require.Error(t, err)
	pair, err := graphtest.ServerCertificate(time.Hour)
	require.NoError(t, err)
	elliptic, err := pair.X509()
	require.NoError(t, err)
	_, err = graphtest.Seal(elliptic.Raw, "id", nil)
	require.ErrorContains(t, err, "no RSA key")
}

func TestPublish_FailsWithUnusableCertificate(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	_, err := g.AddSubscription(graphtest.Subscription{
		Resource: resource, ChangeType: "created", Expiration: time.Now().Add(time.Hour), IncludeResourceData: true, EncryptionCertificate: []byte("noise"),
	})
	require.NoError(t, err)
	_, err = g.Publish(t.Context(), promptAndResponse...)
	require.ErrorContains(t, err, "seal")
	_, err = g.Collection(promptAndResponse...)
	require.ErrorContains(t, err, "seal")
	_, err = g.Collection(graphtest.Created([]byte("{"))...)
	require.ErrorContains(t, err, "not JSON")
}
