package graphtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // Graph prescribes OAEP with SHA-1
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// EncryptedContent is the encrypted resource of a notification: base64 but for the two names of the certificate.
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
	sum := sha1.Sum(der) //nolint:gosec // names a certificate, as Windows does
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}
