package notification

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeySetBytes    = 1 << 20
	maxSigningKeyBits = 8192
)

// fetchKeys reads a JSON Web Key Set (RFC 7517) and keeps the keys that can verify RS256, by their kid.
func fetchKeys(ctx context.Context, client *http.Client, url string) (map[string]*rsa.PublicKey, error) {
	body, err := fetchBody(ctx, client, url)
	if err != nil {
		return nil, fmt.Errorf("fetch the signing keys, check auth.authority, the proxy and the firewall: %w", err)
	}
	keys, err := parseKeys(body)
	if err != nil {
		return nil, fmt.Errorf("read the signing keys of %s, check auth.authority and the proxy: %w", url, err)
	}
	return keys, nil
}

func fetchBody(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, &refusedKeys{url: url, status: response.StatusCode, retryAfter: retryAfter(response.Header, time.Now())}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxKeySetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", url, err)
	}
	if len(body) > maxKeySetBytes {
		return nil, fmt.Errorf("answer of %s is larger than %d bytes", url, maxKeySetBytes)
	}
	return body, nil
}

// refusedKeys is an answer without keys.
type refusedKeys struct {
	url    string
	status int
	// retryAfter is how long the authority asked to wait, 0 where it did not.
	retryAfter time.Duration
}

func (e *refusedKeys) Error() string {
	text := fmt.Sprintf("%s answered %d %s", e.url, e.status, http.StatusText(e.status))
	if e.retryAfter > 0 {
		text += " and asked to wait " + e.retryAfter.String()
	}
	return text
}

// retryAfter reads the header of RFC 9110 section 10.2.3: seconds, or a date.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(until.Sub(now).Round(time.Second), 0)
}

// parseKeys reads key by key, for one that nobody understands must not cost the others (RFC 7517 section 5).
func parseKeys(body []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, errors.New("not a JSON Web Key Set")
	}
	keys := make(map[string]*rsa.PublicKey)
	for _, raw := range set.Keys {
		key, err := parseKey(raw)
		if err != nil || key.KeyID == "" {
			continue
		}
		public, ok := signingKey(key)
		if _, taken := keys[key.KeyID]; ok && !taken {
			keys[key.KeyID] = public
		}
	}
	// An empty set would put every token in the wrong; the set of before may still be right.
	if len(keys) == 0 {
		return nil, errors.New("no RSA signing key in the set")
	}
	return keys, nil
}

// parseKey reads the members of an RSA key alone: what a set says of certificates (x5c, x5t) proves nothing here, and a
// mistake in it must not cost the key.
func parseKey(raw json.RawMessage) (*jose.JSONWebKey, error) {
	type public struct {
		Type      string `json:"kty"`
		ID        string `json:"kid"`
		Use       string `json:"use,omitempty"`
		Algorithm string `json:"alg,omitempty"`
		Modulus   string `json:"n"`
		Exponent  string `json:"e"`
	}
	var members struct {
		public
		Private json.RawMessage `json:"d"`
	}
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	if members.Private != nil {
		return nil, errors.New("a private key, which is no secret any more")
	}
	plain, err := json.Marshal(members.public)
	if err != nil {
		return nil, err
	}
	var key jose.JSONWebKey
	return &key, key.UnmarshalJSON(plain)
}

// signingKey takes public RSA keys of a sound size for signatures. A key without use or alg is not limited to any.
func signingKey(key *jose.JSONWebKey) (*rsa.PublicKey, bool) {
	public, ok := key.Key.(*rsa.PublicKey)
	if !ok || (key.Use != "" && key.Use != "sig") || (key.Algorithm != "" && key.Algorithm != string(jose.RS256)) {
		return nil, false
	}
	bits := public.N.BitLen()
	return public, bits >= minKeyBits && bits <= maxSigningKeyBits
}
