package notification

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // Graph encrypts with RSA-OAEP over SHA-1, which does not rely on collision resistance
	"crypto/sha256"
	"encoding/base64"
)

const contentKeyLength = 32

// Decrypt decrypts the content of a notification:
// https://learn.microsoft.com/graph/change-notifications-with-resource-data#decrypting-resource-data-from-change-notifications
//
// It verifies the signature in constant time before it decrypts data with the content key. The error is an *Error with
// ReasonOAEP, ReasonHMAC, ReasonSignatureMissing or ReasonMalformed.
func Decrypt(content *EncryptedContent, key *Key) ([]byte, error) {
	if content.DataSignature == "" {
		return nil, errorf(ReasonSignatureMissing, "content without a signature is not decrypted")
	}
	digest, err := decodeBase64("dataSignature", content.DataSignature)
	if err != nil {
		return nil, err
	}
	wrapped, err := decodeBase64("dataKey", content.DataKey)
	if err != nil {
		return nil, err
	}
	data, err := decodeBase64("data", content.Data)
	if err != nil {
		return nil, err
	}
	contentKey, err := rsa.DecryptOAEP(sha1.New(), nil, key.private, wrapped, nil) //nolint:gosec // see the import
	if err != nil {
		return nil, errorf(ReasonOAEP, "the data key cannot be decrypted with the key of %s", key.certificateID)
	}
	if len(contentKey) != contentKeyLength {
		return nil, errorf(ReasonMalformed, "data key of %d bytes instead of %d", len(contentKey), contentKeyLength)
	}
	mac := hmac.New(sha256.New, contentKey)
	mac.Write(data)
	if !hmac.Equal(mac.Sum(nil), digest) {
		return nil, errorf(ReasonHMAC, "the content does not match its signature: it was altered, nothing was decrypted")
	}
	return decryptData(data, contentKey)
}

// decryptData decrypts in place: AES-256-CBC with PKCS#7 padding (RFC 5652 section 6.3). Graph prescribes that the
// initialization vector is a part of the key; this is acceptable because each key is used once.
func decryptData(data, contentKey []byte) ([]byte, error) {
	if len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, errorf(ReasonMalformed, "data of %d bytes is not a multiple of the AES block size", len(data))
	}
	block, err := aes.NewCipher(contentKey)
	if err != nil {
		return nil, errorf(ReasonMalformed, "data key: %v", err)
	}
	cipher.NewCBCDecrypter(block, contentKey[:aes.BlockSize]).CryptBlocks(data, data)
	padding := int(data[len(data)-1])
	if padding == 0 || padding > aes.BlockSize {
		return nil, errorf(ReasonMalformed, "wrong padding")
	}
	text := data[:len(data)-padding]
	for _, b := range data[len(text):] {
		if int(b) != padding {
			return nil, errorf(ReasonMalformed, "wrong padding")
		}
	}
	return text, nil
}

// decodeBase64 decodes standard base64 with padding and ignores line breaks.
func decodeBase64(member, text string) ([]byte, error) {
	decoded, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errorf(ReasonMalformed, "%s is not base64", member)
	}
	return decoded, nil
}
