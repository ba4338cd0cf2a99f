package failure

// The codes. Their first digit is the area:
//
//	0 storage, keys and the process itself
//	1 network and availability of Microsoft's services
//	2 access tokens
//	3 permissions, licenses and subscriptions
//	4 the listener and its notifications
//	5 history and reconciliation
const (
	StorageFailing        Code = "COP001"
	StorageDamaged        Code = "COP002"
	CertificateFiles      Code = "COP003"
	ComponentPanicked     Code = "COP004"
	MetricsNotDelivered   Code = "COP005"
	LogsPipelineRefusing  Code = "COP006"
	ListenAddressInUse    Code = "COP401"
	ListenPortForbidden   Code = "COP402"
	ListenAddressInvalid  Code = "COP403"
	ListenerCertificate   Code = "COP404"
	ListenerDied          Code = "COP405"
	ValidationAtOtherPath Code = "COP406"
	BodyTooLarge          Code = "COP407"
	ConnectionFailed      Code = "COP408"
	EncryptionKey         Code = "COP007"

	SigningKeysUnavailable Code = "COP110"

	ForeignClientState      Code = "COP410"
	OtherTenant             Code = "COP411"
	TokensMissing           Code = "COP412"
	TokenIssuer             Code = "COP413"
	TokenAudience           Code = "COP414"
	TokenPublisher          Code = "COP415"
	ClockWrong              Code = "COP416"
	NotificationAltered     Code = "COP417"
	NotificationUnsupported Code = "COP418"
	CertificateMissing      Code = "COP419"
	ContentMissing          Code = "COP420"
	TooManyItems            Code = "COP421"
)

// hints returns the hint of each code, some with verbs of package fmt.
func hints() map[Code]string {
	return map[Code]string{ //nolint:gosec // hints, not credentials
		StorageFailing:       "check the storage extension and the disk it writes to; until it works again, state is kept in memory and a crash loses it",
		StorageDamaged:       "nothing to do: the value is replaced, and what it held is read again from the history",
		CertificateFiles:     "write the files of encryption.certificates again, or restore them",
		ComponentPanicked:    "the stack names the component that panicked: report it to its maintainers",
		MetricsNotDelivered:  "check the exporters of the metrics pipeline; the next values contain these",
		LogsPipelineRefusing: "check the exporters of the logs pipeline; Microsoft Graph sends again what was not taken",

		ListenAddressInUse:    "stop the program that listens there, or choose another port in webhook.endpoint",
		ListenPortForbidden:   "choose a port of 1024 or higher in webhook.endpoint, or let this process bind lower ones (CAP_NET_BIND_SERVICE)",
		ListenAddressInvalid:  "write webhook.endpoint as host:port, with an address of this machine, or 0.0.0.0 for all of them",
		ListenerCertificate:   "check the certificate and key of webhook.tls, and that this process may read them",
		ListenerDied:          "restart the collector",
		ValidationAtOtherPath: "if Microsoft Graph sent it, set webhook.path to the path that requests arrive with: that of subscription.notification_url, unless an ingress rewrites it",
		BodyTooLarge:          "if Microsoft Graph sent it, it is lost after 4 hours of retries: raise webhook.max_request_body_size and webhook.max_in_flight_bytes; if interactions are not missing, somebody else sends such bodies",
		ConnectionFailed:      "if Microsoft Graph can't connect, check webhook.tls; anybody else who connects can cause this as well",
		EncryptionKey:         "name in encryption.certificates a certificate and its RSA key of 2048 to 4096 bits in PEM without a password; `openssl x509 -in FILE -out FILE.pem` and `openssl pkey -in FILE -out FILE.pem` convert them",

		SigningKeysUnavailable: "check auth.authority, the proxy and the firewall: the keys that sign validation tokens are fetched from there",

		ForeignClientState:      "nothing to do for forgeries; a subscription made with another encryption key or by another receiver is replaced or expires within 3 days",
		OtherTenant:             "check tenant_id",
		TokensMissing:           "in Entra > Enterprise applications > Properties set \"Assignment required\" (appRoleAssignmentRequired) to No, or grant the service principal Microsoft Graph Change Tracking an app role of the application",
		TokenIssuer:             "check tenant_id, cloud and auth.authority, or add the issuer to auth.issuers",
		TokenAudience:           "add the audience to auth.audiences if it is yours",
		TokenPublisher:          "replace the encryption key: another application sent the token and knows the client state",
		ClockWrong:              "check the clock of this machine",
		NotificationAltered:     "check the proxies between Microsoft Graph and webhook.endpoint, which must not change a request",
		NotificationUnsupported: "update this receiver, and report it if the newest version says the same",
		CertificateMissing:      "add the certificate that the content was encrypted for to encryption.certificates until Graph uses a new one; if it is there under the same id, delete the subscription so that it is recreated",
		TooManyItems:            "raise webhook.max_in_flight_bytes; these items are read from the history",
		ContentMissing:          "nothing to do, the history has the content; if this happens often, delete the subscription, which was created without includeResourceData",
	}
}
