// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // Graph prescribes OAEP with SHA-1
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Collection is the body of a notification:
// https://learn.microsoft.com/graph/api/resources/changenotificationcollection
type Collection struct {
	Value            []Item   `json:"value"`
	ValidationTokens []string `json:"validationTokens,omitempty"`
	// NullTokens sends validationTokens as null, as Graph does when it can't obtain a token for the application.
	NullTokens bool `json:"-"`
}

// MarshalJSON writes validationTokens as null, as a list or not at all.
func (c Collection) MarshalJSON() ([]byte, error) {
	if c.NullTokens {
		return json.Marshal(map[string]any{"value": c.Value, "validationTokens": nil})
	}
	type plain Collection
	return json.Marshal(plain(c))
}

// Item is one change or one lifecycle event: https://learn.microsoft.com/graph/api/resources/changenotification
type Item struct {
	SubscriptionID         string            `json:"subscriptionId"`
	SubscriptionExpiration string            `json:"subscriptionExpirationDateTime"`
	ClientState            string            `json:"clientState,omitempty"`
	ChangeType             string            `json:"changeType,omitempty"`
	Resource               string            `json:"resource,omitempty"`
	ResourceData           *ResourceData     `json:"resourceData,omitempty"`
	EncryptedContent       *EncryptedContent `json:"encryptedContent,omitempty"`
	TenantID               string            `json:"tenantId"`
	LifecycleEvent         string            `json:"lifecycleEvent,omitempty"`
}

// ResourceData identifies the interaction, but neither its user nor its session.
type ResourceData struct {
	ID        string `json:"id"`
	ODataType string `json:"@odata.type"`
	ODataID   string `json:"@odata.id"`
}

// pacific is the zone of expirations in notifications: Graph sometimes writes them with an offset, so the emulator always does.
var pacific = time.FixedZone("", -8*60*60)

func (e *Emulator) lifecycleItem(s Subscription, event string) Item {
	return Item{
		SubscriptionID:         s.ID,
		SubscriptionExpiration: s.Expiration.In(pacific).Format(timeFormat),
		ClientState:            s.ClientState,
		TenantID:               e.settings.TenantID,
		LifecycleEvent:         event,
	}
}

func (e *Emulator) item(s Subscription, i parsedInteraction) (Item, error) {
	resource := fmt.Sprintf("copilot/interactionHistory/interactions('%s')", i.id)
	item := e.lifecycleItem(s, "")
	item.ChangeType = i.Change
	item.Resource = resource
	item.ResourceData = &ResourceData{ID: i.id, ODataType: "#Microsoft.Graph.aiInteraction", ODataID: resource}
	if !s.IncludeResourceData || i.WithoutContent {
		return item, nil
	}
	content, err := Seal(s.EncryptionCertificate, s.EncryptionCertificateID, i.JSON)
	if err != nil {
		return Item{}, err
	}
	item.EncryptedContent = &content
	return item, nil
}

// audience returns the id of the application that the validation token is for.
func (e *Emulator) audience(s Subscription) string {
	if s.NotificationURLAppID != "" {
		return s.NotificationURLAppID
	}
	return e.settings.ClientID
}

// collection adds the validation token. Only notifications with resource data carry one.
func (e *Emulator) collection(s Subscription, items []Item) Collection {
	c := Collection{Value: items}
	if !s.IncludeResourceData {
		return c
	}
	if e.keys.nullTokens.Load() {
		c.NullTokens = true
		return c
	}
	c.ValidationTokens = []string{e.keys.token(e.audience(s), time.Now())}
	return c
}

// SendNullTokens makes every notification carry validationTokens: null, as Graph does while the application's service principal
// requires an assignment that Microsoft Graph Change Tracking does not have.
func (e *Emulator) SendNullTokens(on bool) { e.keys.nullTokens.Store(on) }

// EncryptedContent is the encrypted resource of a notification. All fields but the certificate's id and thumbprint are base64.
// https://learn.microsoft.com/graph/api/resources/changenotificationencryptedcontent
type EncryptedContent struct {
	Data                            string `json:"data"`
	DataSignature                   string `json:"dataSignature,omitempty"`
	DataKey                         string `json:"dataKey"`
	EncryptionCertificateID         string `json:"encryptionCertificateId"`
	EncryptionCertificateThumbprint string `json:"encryptionCertificateThumbprint"`
}

// Seal encrypts plaintext for the holder of the certificate's private key as Graph does: a new AES-256 key, encrypted with
// RSA-OAEP and SHA-1; AES-CBC with PKCS#7 padding and the key's first 16 bytes as initialization vector; HMAC-SHA256 of
// the ciphertext with the same key.
// https://learn.microsoft.com/graph/change-notifications-with-resource-data#decrypting-resource-data-from-change-notifications
func Seal(certificateDER []byte, certificateID string, plaintext []byte) (EncryptedContent, error) {
	certificate, err := x509.ParseCertificate(certificateDER)
	if err != nil {
		return EncryptedContent{}, fmt.Errorf("seal: %w", err)
	}
	public, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return EncryptedContent{}, errors.New("seal: the certificate has no RSA key")
	}
	key := randomBytes(32)
	//nolint:gosec // Graph prescribes OAEP with SHA-1
	dataKey, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, key, nil)
	if err != nil {
		return EncryptedContent{}, fmt.Errorf("seal: %w", err)
	}
	data, signature, err := encrypt(key, plaintext)
	if err != nil {
		return EncryptedContent{}, fmt.Errorf("seal: %w", err)
	}
	return EncryptedContent{
		Data:                            base64.StdEncoding.EncodeToString(data),
		DataSignature:                   base64.StdEncoding.EncodeToString(signature),
		DataKey:                         base64.StdEncoding.EncodeToString(dataKey),
		EncryptionCertificateID:         certificateID,
		EncryptionCertificateThumbprint: thumbprint(certificateDER),
	}, nil
}

func encrypt(key, plaintext []byte) (data, signature []byte, err error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	padding := aes.BlockSize - len(plaintext)%aes.BlockSize
	data = append(data, plaintext...)
	for range padding {
		data = append(data, byte(padding))
	}
	cipher.NewCBCEncrypter(block, key[:aes.BlockSize]).CryptBlocks(data, data)
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write(data)
	return data, mac.Sum(nil), nil
}

func thumbprint(der []byte) string {
	sum := sha1.Sum(der) //nolint:gosec // identifies a certificate, as Windows does
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// Publisher is the application id of Microsoft Graph Change Tracking, which validation tokens carry in azp or appid:
// https://learn.microsoft.com/graph/change-notifications-with-resource-data#validating-the-authenticity-of-notifications
const Publisher = "0bf30f3b-4a52-48df-9a82-234910c4a086"

// Token returns a validation token of the version in use, signed with the current key. mutate may change or delete claims before
// that; if it is nil, the token is authentic.
func (e *Emulator) Token(mutate func(claims map[string]any)) string {
	claims := e.Claims()
	if mutate != nil {
		mutate(claims)
	}
	return e.keys.sign(claims)
}

// Claims returns the claims of an authentic validation token that is valid from now on.
func (e *Emulator) Claims() map[string]any {
	e.keys.mu.Lock()
	version := e.keys.version
	e.keys.mu.Unlock()
	return e.settings.validationClaims(version, e.settings.ClientID, time.Now())
}

// SignWith signs a JWT with any method and key: another RSA key, HS256 with a public key, jwt.UnsafeAllowNoneSignatureType.
// If kid is empty, the header has none.
func SignWith(method jwt.SigningMethod, key any, kid string, claims map[string]any) (string, error) {
	token := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign a token with %s: %w", method.Alg(), err)
	}
	return text, nil
}

// SetValidationTokenVersion sets the version, 1 or 2, of validation tokens from now on.
func (e *Emulator) SetValidationTokenVersion(version int) {
	e.keys.mu.Lock()
	defer e.keys.mu.Unlock()
	e.keys.version = version
	clear(e.keys.tokens)
}

// CurrentKeyID returns the kid of the current signing key.
func (e *Emulator) CurrentKeyID() string { return e.keys.current().id }

// token returns the validation token for the audience, which is the same until a tenth of its lifetime is left.
func (k *keyRing) token(audience string, now time.Time) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := k.currentLocked()
	if cached, ok := k.tokens[audience]; ok && cached.expires.Sub(now) > k.settings.ValidationTokenLifetime/10 {
		return cached.text
	}
	text, err := SignWith(jwt.SigningMethodRS256, key.key, key.id, k.settings.validationClaims(k.version, audience, now))
	if err != nil {
		panic(fmt.Sprintf("graphtest: %v", err))
	}
	k.tokens[audience] = validationToken{text: text, expires: now.Add(k.settings.ValidationTokenLifetime)}
	return text
}

func (s Settings) validationClaims(version int, audience string, now time.Time) map[string]any {
	claims := map[string]any{
		"aud": audience,
		"tid": s.TenantID,
		"iat": now.Unix(),
		"nbf": now.Unix(),
		"exp": now.Add(s.ValidationTokenLifetime).Unix(),
		"uti": newGUID(),
		"aio": newGUID(),
	}
	if version == 1 {
		claims["ver"], claims["iss"], claims["appid"], claims["appidacr"] = "1.0", s.IssuerV1, Publisher, "2"
		claims["idp"] = s.IssuerV1
	} else {
		claims["ver"], claims["iss"], claims["azp"], claims["azpacr"] = "2.0", s.IssuerV2, Publisher, "2"
		claims["oid"], claims["sub"] = s.servicePrincipalID(), s.servicePrincipalID()
	}
	return claims
}

// Pair is a certificate and its private key, both in PEM.
type Pair struct {
	Certificate, Key []byte
}

// Organization is in the subject of every certificate that ServerCertificate makes.
const Organization = "graphtest emulator"

// ServerCertificate makes a self-signed certificate for localhost, 127.0.0.1 and ::1 that is valid from an hour ago until validFor from
// now. Graph itself accepts only certificates of public authorities; the emulator accepts those in Settings.RootCAs.
func ServerCertificate(validFor time.Duration) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make a server certificate: %w", err)
	}
	return selfSigned(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost", Organization: []string{Organization}},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key, &key.PublicKey, validFor)
}

// EncryptionCertificate makes a self-signed certificate with an RSA key of the given size, as a subscription requires it.
func EncryptionCertificate(bits int, validFor time.Duration) (Pair, error) {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return Pair{}, fmt.Errorf("make an encryption certificate: %w", err)
	}
	return selfSigned(&x509.Certificate{
		Subject:  pkix.Name{CommonName: "graphtest encryption"},
		KeyUsage: x509.KeyUsageKeyEncipherment,
	}, key, &key.PublicKey, validFor)
}

func selfSigned(template *x509.Certificate, key, public any, validFor time.Duration) (Pair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Pair{}, fmt.Errorf("make a certificate: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(validFor)
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return Pair{}, fmt.Errorf("make a certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("make a certificate: %w", err)
	}
	return Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}, nil
}

// X509 parses the certificate.
func (p Pair) X509() (*x509.Certificate, error) {
	block, _ := pem.Decode(p.Certificate)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("the file holds no certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// TLS returns the pair in the form that a TLS server needs.
func (p Pair) TLS() (tls.Certificate, error) { return tls.X509KeyPair(p.Certificate, p.Key) }

// Pool returns a pool that contains only this certificate.
func (p Pair) Pool() (*x509.CertPool, error) {
	certificate, err := p.X509()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return pool, nil
}
