#!/bin/sh
# Makes the test vectors of this folder with the openssl command line alone, so that the tests check the receiver against
# another implementation. The keys are made here, for the tests only: nothing else ever uses them.
#
# Usage: ./make-vectors.sh        (OpenSSL 3.0 or later; everything is made anew, keys too)
set -eu
cd "$(dirname "$0")"

tenant=6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10
client=8e460676-ae3f-4b1e-8790-ee0fb5d6148f
resource=copilot/interactionHistory/getAllEnterpriseInteractions

hex() { od -An -v -tx1 | tr -d ' \n'; }
digest() { openssl dgst "-$1" -binary | hex; }

# self_signed BITS FOLDER
self_signed() {
	mkdir -p "$2"
	openssl genrsa -out "$2/test-only-key.pem" "$1"
	openssl req -x509 -new -key "$2/test-only-key.pem" -days 36500 -subj "/CN=test only, $1 bits" -out "$2/test-only-cert.pem"
}

# vector BITS: content.json is what Graph would send for plaintext.json, derived.json what the receiver must make of the key.
vector() {
	dir=vectors/rsa$1
	self_signed "$1" "$dir"
	printf '{"id":"1764599405123","interactionType":"userPrompt","locale":"en-us","body":{"contentType":"text","content":"%s bits, gr\303\274n"}}' \
		"$1" >"$dir/plaintext.json"

	spki=$(openssl x509 -in "$dir/test-only-cert.pem" -noout -pubkey | openssl pkey -pubin -outform DER | digest sha256)
	certificate_id=key.$(printf %s "$spki" | cut -c1-16)
	thumbprint=$(openssl x509 -in "$dir/test-only-cert.pem" -outform DER | digest sha1)
	pkcs8=$(openssl pkcs8 -topk8 -nocrypt -in "$dir/test-only-key.pem" -outform DER | hex)
	state=$(openssl kdf -keylen 32 -binary -kdfopt digest:SHA256 -kdfopt "hexkey:$pkcs8" \
		-kdfopt "info:m365_copilot client state v1|$tenant|$client|$resource" HKDF |
		openssl base64 -A | tr '+/' '-_' | tr -d '=')

	openssl rand 32 >content-key
	key=$(hex <content-key)
	iv=$(printf %s "$key" | cut -c1-32)
	openssl enc -aes-256-cbc -K "$key" -iv "$iv" -in "$dir/plaintext.json" -out data
	openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary -out data-signature data
	openssl pkeyutl -encrypt -certin -inkey "$dir/test-only-cert.pem" -pkeyopt rsa_padding_mode:oaep \
		-pkeyopt rsa_oaep_md:sha1 -pkeyopt rsa_mgf1_md:sha1 -in content-key -out data-key

	printf '{\n  "data": "%s",\n  "dataKey": "%s",\n  "dataSignature": "%s",\n  "encryptionCertificateId": "%s",\n  "encryptionCertificateThumbprint": "%s"\n}\n' \
		"$(openssl base64 -A -in data)" "$(openssl base64 -A -in data-key)" "$(openssl base64 -A -in data-signature)" \
		"$certificate_id" "$(printf %s "$thumbprint" | tr a-f A-F)" >"$dir/content.json"
	printf '{\n  "certificateId": "%s",\n  "thumbprint": "%s",\n  "clientState": "%s"\n}\n' \
		"$certificate_id" "$thumbprint" "$state" >"$dir/derived.json"
	rm content-key data data-signature data-key
}

vector 2048
vector 3072
vector 4096

# The key of vectors/rsa2048 in the other forms that openssl writes.
mkdir -p forms
openssl rsa -in vectors/rsa2048/test-only-key.pem -traditional -out forms/test-only-pkcs1-key.pem
openssl pkcs8 -topk8 -in vectors/rsa2048/test-only-key.pem -passout pass:test -out forms/test-only-encrypted-key.pem
openssl rsa -in vectors/rsa2048/test-only-key.pem -traditional -aes256 -passout pass:test -out forms/test-only-encrypted-pkcs1-key.pem
openssl x509 -in vectors/rsa2048/test-only-cert.pem -outform DER -out forms/test-only-cert.der
openssl pkcs8 -topk8 -nocrypt -in vectors/rsa2048/test-only-key.pem -outform DER -out forms/test-only-key.der
cat vectors/rsa2048/test-only-key.pem vectors/rsa2048/test-only-cert.pem vectors/rsa3072/test-only-cert.pem >forms/test-only-key-and-chain.pem

# Keys that Graph does not take.
self_signed 1024 refused/rsa1024
self_signed 4608 refused/rsa4608
mkdir -p refused/ec
openssl ecparam -name prime256v1 -genkey -noout -out refused/ec/test-only-sec1-key.pem
openssl pkcs8 -topk8 -nocrypt -in refused/ec/test-only-sec1-key.pem -out refused/ec/test-only-key.pem
openssl req -x509 -new -key refused/ec/test-only-key.pem -days 36500 -subj "/CN=test only, EC" -out refused/ec/test-only-cert.pem

# Two signing keys of an authority, before and after a rotation.
mkdir -p authority
openssl genrsa -out authority/test-only-first-key.pem 2048
openssl genrsa -out authority/test-only-second-key.pem 2048
