// SPDX-License-Identifier: Apache-2.0

package notification_test

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func newVerifier(source notification.KeySource) *notification.Verifier {
	return notification.NewVerifier(notification.Settings{
		TenantID:  tenant,
		Audiences: []string{client, "api://other"},
		Issuers:   []string{issuerV1, issuerV2},
		Keys:      source,
	})
}

func TestVerifier_AcceptsGenuineTokens(t *testing.T) {
	t.Parallel()
	tests := map[string]func(jwt.MapClaims){
		"of version 2.0": func(jwt.MapClaims) {},
		"of version 1.0": func(c jwt.MapClaims) {
			delete(c, "azp")
			c["ver"], c["appid"], c["iss"] = "1.0", publisher, issuerV1
		},
		"for another of our audiences":            func(c jwt.MapClaims) { c["aud"] = "api://other" },
		"for several audiences, one of them ours": func(c jwt.MapClaims) { c["aud"] = []string{"x", client} },
		"with the tenant in upper case":           func(c jwt.MapClaims) { c["tid"] = strings.ToUpper(tenant) },
		"with the audience in upper case":         func(c jwt.MapClaims) { c["aud"] = strings.ToUpper(client) },
		"without nbf":                             func(c jwt.MapClaims) { delete(c, "nbf") },
		"expired for less than five minutes":      func(c jwt.MapClaims) { c["exp"] = noon.Add(-5*time.Minute + time.Second).Unix() },
		"valid in less than five minutes' time":   func(c jwt.MapClaims) { c["nbf"] = noon.Add(5 * time.Minute).Unix() },
		"with times that are not whole numbers":   func(c jwt.MapClaims) { c["exp"] = float64(noon.Unix()) + 0.5 },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims := tokenClaims()
			change(claims)
			assert.NoError(t, newVerifier(firstKey(t)).Verify(t.Context(), mint(t, claims), noon))
		})
	}
}

func TestVerifier_RejectsWrongClaims(t *testing.T) {
	t.Parallel()
	const other = "11111111-2222-3333-4444-555555555555"
	tests := map[string]struct {
		change   func(jwt.MapClaims)
		want     notification.Reason
		contains []string
	}{
		"expired five minutes ago": {
			func(c jwt.MapClaims) { c["exp"] = noon.Add(-5 * time.Minute).Unix() },
			notification.ReasonTokenExpired,
			[]string{"clock of this machine", "2025-12-01T11:55:00Z", "2025-12-01T12:00:00Z"},
		},
		"valid in more than five minutes' time": {
			func(c jwt.MapClaims) { c["nbf"] = noon.Add(5*time.Minute + time.Second).Unix() },
			notification.ReasonTokenNotYetValid,
			[]string{"clock of this machine", "2025-12-01T12:05:01Z", "2025-12-01T12:00:00Z"},
		},
		"without exp":       {func(c jwt.MapClaims) { delete(c, "exp") }, notification.ReasonTokenMalformed, []string{"no expiry"}},
		"with exp as text":  {func(c jwt.MapClaims) { c["exp"] = "tomorrow" }, notification.ReasonTokenMalformed, []string{"claim"}},
		"of another's":      {func(c jwt.MapClaims) { c["aud"] = other }, notification.ReasonTokenAudience, []string{"auth.audiences", other, client}},
		"without aud":       {func(c jwt.MapClaims) { delete(c, "aud") }, notification.ReasonTokenAudience, []string{"auth.audiences"}},
		"with a huge aud":   {func(c jwt.MapClaims) { c["aud"] = strings.Repeat("a", 5000) }, notification.ReasonTokenAudience, []string{strings.Repeat("a", 128) + `"`}},
		"sent by another":   {func(c jwt.MapClaims) { c["azp"] = other }, notification.ReasonTokenPublisher, []string{other, publisher}},
		"appid in a 2.0":    {func(c jwt.MapClaims) { c["appid"], c["azp"] = publisher, other }, notification.ReasonTokenPublisher, nil},
		"azp in a 1.0":      {func(c jwt.MapClaims) { c["ver"] = "1.0" }, notification.ReasonTokenPublisher, nil},
		"of no version":     {func(c jwt.MapClaims) { delete(c, "ver") }, notification.ReasonTokenVersion, []string{"1.0", "2.0"}},
		"of version 3.0":    {func(c jwt.MapClaims) { c["ver"] = "3.0" }, notification.ReasonTokenVersion, []string{"3.0"}},
		"of another issuer": {func(c jwt.MapClaims) { c["iss"] = "https://evil.example/" }, notification.ReasonTokenIssuer, []string{"auth.issuers", "evil.example", issuerV2}},
		"of no tenant":      {func(c jwt.MapClaims) { delete(c, "tid") }, notification.ReasonTokenTenant, []string{tenant}},
		"of another tenant": {func(c jwt.MapClaims) { c["tid"] = other }, notification.ReasonTokenTenant, []string{other, "tenant_id"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims := tokenClaims()
			test.change(claims)
			token := mint(t, claims)
			assertRefused(t, newVerifier(firstKey(t)).Verify(t.Context(), token, noon), test.want, token, test.contains...)
		})
	}
}

func assertRefused(t *testing.T, err error, want notification.Reason, token string, contains ...string) {
	t.Helper()
	refused, ok := errors.AsType[*notification.Error](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, want, refused.Reason)
	for _, part := range contains {
		assert.Contains(t, told(t, err), part)
	}
	for part := range strings.SplitSeq(token, ".") {
		if part != "" {
			assert.NotContains(t, err.Error(), part)
		}
	}
	assert.Less(t, len(err.Error()), 600)
}

func TestVerifier_RejectsBeforeKeyLookup(t *testing.T) {
	t.Parallel()
	with := func(method jwt.SigningMethod, key any, header map[string]any) string {
		token := jwt.NewWithClaims(method, tokenClaims())
		token.Header["kid"] = "first"
		maps.Copy(token.Header, header)
		signed, err := token.SignedString(key)
		require.NoError(t, err)
		return signed
	}
	private := authorityKey(t, "first")
	tests := map[string]struct {
		token string
		want  notification.Reason
	}{
		"not signed":        {with(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil), notification.ReasonTokenAlgorithm},
		"signed with HS256": {with(jwt.SigningMethodHS256, private.N.Bytes(), nil), notification.ReasonTokenAlgorithm},
		"signed with RS512": {with(jwt.SigningMethodRS512, private, nil), notification.ReasonTokenAlgorithm},
		"signed with PS256": {with(jwt.SigningMethodPS256, private, nil), notification.ReasonTokenAlgorithm},
		"without a kid":     {with(jwt.SigningMethodRS256, private, map[string]any{"kid": ""}), notification.ReasonTokenMalformed},
		"empty":             {"", notification.ReasonTokenMalformed},
		"not a JWT":         {"hello", notification.ReasonTokenMalformed},
		"of two parts":      {"aGVsbG8.aGVsbG8", notification.ReasonTokenMalformed},
		"of four parts":     {mint(t, tokenClaims()) + ".aGVsbG8", notification.ReasonTokenMalformed},
		"in JSON form":      {`{"payload":"e30","protected":"e30","signature":""}`, notification.ReasonTokenMalformed},
		"too long":          {mint(t, jwt.MapClaims{"x": strings.Repeat("x", 16<<10)}), notification.ReasonTokenMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := firstKey(t)
			assertRefused(t, newVerifier(source).Verify(t.Context(), test.token, noon), test.want, test.token)
			assert.Zero(t, source.calls.Load())
		})
	}
}

func TestVerifier_RejectsInvalidSignatures(t *testing.T) {
	t.Parallel()
	genuine := strings.Split(mint(t, tokenClaims()), ".")
	claims := tokenClaims()
	claims["tid"] = "another"
	tests := map[string]struct {
		token string
		want  notification.Reason
	}{
		"by another key with the same id":      {mintWith(t, authorityKey(t, "second"), "first", tokenClaims()), notification.ReasonTokenSignature},
		"by an unknown key":                    {mintWith(t, authorityKey(t, "second"), "second", tokenClaims()), notification.ReasonTokenKey},
		"of other claims":                      {strings.Join([]string{genuine[0], strings.Split(mint(t, claims), ".")[1], genuine[2]}, "."), notification.ReasonTokenSignature},
		"that are empty":                       {genuine[0] + "." + genuine[1] + ".", notification.ReasonTokenSignature},
		"over a payload that is not an object": {signText(t, `"text"`), notification.ReasonTokenMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := firstKey(t)
			assertRefused(t, newVerifier(source).Verify(t.Context(), test.token, noon), test.want, test.token)
			assert.EqualValues(t, 1, source.calls.Load())
		})
	}
}

// signText signs a payload that is not a set of claims.
func signText(t *testing.T, payload string) string {
	t.Helper()
	head, _, _ := strings.Cut(mint(t, tokenClaims()), ".")
	token := jwt.New(jwt.SigningMethodRS256)
	text := head + "." + token.EncodeSegment([]byte(payload))
	digest, err := jwt.SigningMethodRS256.Sign(text, authorityKey(t, "first"))
	require.NoError(t, err)
	return text + "." + token.EncodeSegment(digest)
}

func TestVerifier_CachesTokenButChecksTimeAgain(t *testing.T) {
	t.Parallel()
	source := firstKey(t)
	verifier := newVerifier(source)
	token := mint(t, tokenClaims())
	for range 3 {
		require.NoError(t, verifier.Verify(t.Context(), token, noon))
	}
	assert.EqualValues(t, 1, source.calls.Load(), "without a key lookup there is no RSA operation")

	assertRefused(t, verifier.Verify(t.Context(), token, noon.Add(24*time.Hour)), notification.ReasonTokenExpired, token)
	assertRefused(t, verifier.Verify(t.Context(), token, noon.Add(-2*time.Hour)), notification.ReasonTokenNotYetValid, token)
	require.NoError(t, verifier.Verify(t.Context(), token, noon))
	assert.EqualValues(t, 1, source.calls.Load())
}

func TestVerifier_DoesNotCacheRefusedToken(t *testing.T) {
	t.Parallel()
	source := firstKey(t)
	verifier := newVerifier(source)
	token := mintWith(t, authorityKey(t, "second"), "first", tokenClaims())
	for range 2 {
		assertRefused(t, verifier.Verify(t.Context(), token, noon), notification.ReasonTokenSignature, token)
	}
	assert.EqualValues(t, 2, source.calls.Load())
}

func TestVerifier_EvictsLeastRecentlyUsedToken(t *testing.T) {
	t.Parallel()
	source := firstKey(t)
	verifier := newVerifier(source)
	numbered := func(n int) string {
		claims := tokenClaims()
		claims["uti"] = strconv.Itoa(n)
		return mint(t, claims)
	}
	lookups := func(token string) int32 {
		before := source.calls.Load()
		require.NoError(t, verifier.Verify(t.Context(), token, noon))
		return source.calls.Load() - before
	}
	first, second := numbered(0), numbered(1)
	lookups(first)
	lookups(second)
	for n := range 1022 {
		lookups(numbered(n + 2))
	}
	assert.Zero(t, lookups(first), "1,024 tokens are cached")
	lookups(numbered(1024))
	assert.Zero(t, lookups(first), "recently used tokens stay")
	assert.EqualValues(t, 1, lookups(second), "the least recently used token was evicted")
}

func TestVerifier_ReturnsErrorWhenUndecidable(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := map[string]struct {
		ctx context.Context
		err error
	}{
		"keys are not available":  {t.Context(), errDown},
		"the context is canceled": {canceled, context.Canceled},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := newVerifier(&fakeKeySource{err: test.err}).Verify(test.ctx, mint(t, tokenClaims()), noon)
			require.ErrorIs(t, err, test.err)
			_, refused := errors.AsType[*notification.Error](err)
			assert.False(t, refused)
		})
	}
}
