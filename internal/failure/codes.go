// SPDX-License-Identifier: Apache-2.0

package failure

// The codes. Their first digit is the area. A code stands for one fix, whatever the failures that need it.
//
//	0 storage, keys and the process itself
//	1 network and availability of Microsoft's services
//	2 access tokens
//	3 permissions, licenses and subscriptions
//	4 the listener and its notifications
//	5 history and reconciliation
const (
	StorageFailing       Code = "COP001"
	StorageDamaged       Code = "COP002"
	CertificateFiles     Code = "COP003"
	ComponentPanicked    Code = "COP004"
	MetricsNotDelivered  Code = "COP005"
	LogsPipelineRefusing Code = "COP006"
	EncryptionKey        Code = "COP007"
	StorageUnreadable    Code = "COP008"
	KeyInMemory          Code = "COP009"
	NoLogsPipeline       Code = "COP010"
	ActivityInMemory     Code = "COP011"
	EncryptionExpiring   Code = "COP012"
	ConfigUnreadable     Code = "COP013"
	SettingWrong         Code = "COP014"
	ReceiverUnused       Code = "COP015"
	ExtensionMissing     Code = "COP016"
	StorageNotWritable   Code = "COP017"
	ChecksCutShort       Code = "COP018"

	Unavailable            Code = "COP101"
	NameNotResolved        Code = "COP102"
	Unreachable            Code = "COP103"
	CertificateNotTrusted  Code = "COP104"
	NotTLS                 Code = "COP105"
	ProxyLoginMissing      Code = "COP106"
	ProxyRefusing          Code = "COP107"
	ProxyUnreachable       Code = "COP108"
	Redirected             Code = "COP109"
	SigningKeysUnavailable Code = "COP110"
	UnexpectedResponse     Code = "COP111"

	ClientSecretWrong        Code = "COP201"
	ClientSecretExpired      Code = "COP202"
	CredentialFile           Code = "COP203"
	CredentialMissing        Code = "COP204"
	ApplicationUnknown       Code = "COP205"
	ApplicationDisabled      Code = "COP206"
	AssertionExpired         Code = "COP207"
	AssertionAudience        Code = "COP208"
	CertificateNotRegistered Code = "COP209"
	FederationMismatch       Code = "COP210"
	ConditionalAccess        Code = "COP211"
	ScopeWrong               Code = "COP212"
	TokenRequestRefused      Code = "COP213"
	CredentialExpiring       Code = "COP214"

	PermissionMissing            Code = "COP301"
	UsersPermissionMissing       Code = "COP302"
	LicenseMissing               Code = "COP303"
	NotOffered                   Code = "COP304"
	UsersNotListed               Code = "COP305"
	UserUnknown                  Code = "COP306"
	NotificationURLUnreachable   Code = "COP307"
	LifetimeTooLong              Code = "COP308"
	EncryptionCertificateRefused Code = "COP309"
	RequestRefused               Code = "COP311"
	SubscriptionInterrupted      Code = "COP312"
	SubscriptionConflict         Code = "COP330"
	SubscriptionKeyConflict      Code = "COP331"
	HandshakePathsDiffer         Code = "COP333"
	HandshakeNotRouted           Code = "COP334"
	HandshakeRefused             Code = "COP335"
	PublicNameNotResolved        Code = "COP336"
	PublicAddressUnreachable     Code = "COP337"
	PublicCertificate            Code = "COP338"
	PublicTLSVersion             Code = "COP339"
	HandshakeAltered             Code = "COP340"

	ListenAddressInUse      Code = "COP401"
	ListenPortForbidden     Code = "COP402"
	ListenAddressInvalid    Code = "COP403"
	ListenerCertificate     Code = "COP404"
	ListenerDied            Code = "COP405"
	ValidationAtOtherPath   Code = "COP406"
	BodyTooLarge            Code = "COP407"
	ConnectionFailed        Code = "COP408"
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

	HistoryInconclusive   Code = "COP510"
	DedupeCacheTooSmall   Code = "COP511"
	DeliveriesUnknown     Code = "COP512"
	HistoryOfUsersFailing Code = "COP513"
	HistoryUnreadable     Code = "COP514"
	HistoryTooOld         Code = "COP515"
	GapNotRead            Code = "COP516"
)

const (
	// orAvoidIt names what chooses a proxy: https://pkg.go.dev/net/http#ProxyFromEnvironment
	orAvoidIt = ", or bypass it: graph.proxy_url chooses it, or without that HTTPS_PROXY and NO_PROXY in the collector's environment"
	setValue  = "its value (not its id) in auth.client_secret or auth.client_secret_file"
	grant     = "grant the app registration of auth.client_id the application permission "
	// requestedHere has the path and the status of a validation request, and the path and address of the webhook.
	requestedHere = "Graph requests %q, which a server answered with %s, while the webhook serves %q (webhook.path) on %s (webhook.endpoint)"
)

// hints returns the hint of each code. The verbs stand for the configuration key of an address, the address of a proxy, a file, or
// what to set.
func hints() map[Code]string {
	return map[Code]string{ //nolint:gosec // hints, not credentials
		StorageFailing: "check the storage extension and the disk it writes to; until it works again, state is kept in memory and a crash loses " +
			"it",
		StorageDamaged:    "nothing to do: the value is replaced, and what it held is read or learned again",
		StorageUnreadable: "check the storage extension and what it stores in, then start again; nothing was written to it",
		KeyInMemory: "name a storage extension in storage, or configure encryption.certificates: without, a restart replaces the " +
			"subscription, and notifications in flight can't be decrypted",
		ActivityInMemory: "name a storage extension in storage: without, each restart forgets when users prompted, and the inventory calls " +
			"them never active until their next prompt",
		EncryptionExpiring: "put a new certificate first in encryption.certificates, keep this one behind it for a day, and reload the " +
			"configuration (SIGHUP)",
		ConfigUnreadable: "correct the named line, or set the named environment variable; `otelcol-copilot validate --config FILE` reads the file " +
			"as the collector does, with the same --feature-gates",
		SettingWrong:         "correct this setting as the line says",
		ReceiverUnused:       "name the receiver under service.pipelines, in a logs pipeline with the exporters of your backend",
		ExtensionMissing:     "configure %s under extensions, and name it in service.extensions",
		StorageNotWritable:   "create the directory %s and let the collector's user write to it, or set create_directory: true",
		ChecksCutShort:       "raise --timeout: the services, or the disk of the storage, answer slowly",
		NoLogsPipeline:       "add the receiver to a logs pipeline: without, interactions are counted and not exported",
		CertificateFiles:     "write the files of encryption.certificates again, or restore them",
		ComponentPanicked:    "the stack names the component that panicked: report it to its maintainers",
		MetricsNotDelivered:  "check the exporters of the metrics pipeline; the next values contain these",
		LogsPipelineRefusing: "check the exporters of the logs pipeline; what they refuse permanently is not sent again, anything else is",
		EncryptionKey: "name in encryption.certificates a certificate and its RSA key of 2048 to 4096 bits in PEM without a password; `openssl " +
			"x509 -in FILE -out FILE.pem` and `openssl pkey -in FILE -out FILE.pem` convert them",

		Unavailable: "nothing to do: Microsoft throttles the receiver or is unavailable, and the receiver tries again after " +
			"the time that Microsoft asked for; if it lasts, Microsoft support finds the call by its request-id",
		NameNotResolved: "check the name in %s and the DNS of the collector's host, or set graph.proxy_url if only a proxy " +
			"can resolve it",
		Unreachable: "check that the firewall lets the collector connect to %s and get an answer within graph.timeout, or " +
			"set graph.proxy_url",
		CertificateNotTrusted: "check the clock, and if a proxy inspects TLS set graph.tls.ca_file to its CA certificate; %s " +
			"must be the name in the certificate",
		NotTLS: "check that %s and graph.proxy_url name a TLS endpoint and that nothing between it and the collector " +
			"interferes with TLS",
		ProxyLoginMissing: "give the proxy %s its login, as in http://user:password@host:port" + orAvoidIt,
		ProxyRefusing:     "allow CONNECT to the hosts of Microsoft in the rules of the proxy %s" + orAvoidIt,
		ProxyUnreachable:  "check the address of the proxy and that the collector may connect to it" + orAvoidIt,
		Redirected: "set %s to the address that answers without a redirect: a proxy, a sign-in page of the network or http " +
			"instead of https is the usual cause",
		SigningKeysUnavailable: "check auth.authority, the proxy and the firewall: the keys that sign validation tokens are fetched from there",
		UnexpectedResponse: "check that %s is Microsoft's own service, and that no proxy, gateway or sign-in page of the " +
			"network answers in its place or rewrites its responses; if none does, report the error to the receiver's project",

		ClientSecretWrong:   "the client secret is wrong: set " + setValue + ", or create a new one for this app registration",
		ClientSecretExpired: "the client secret has expired: create a new one for this app registration and set " + setValue,
		CredentialFile: "make the file %s readable for the collector, with the content that %s requires; the next attempt " +
			"reads it again, without a restart",
		CredentialMissing: "set exactly one credential under auth, and check auth.auth_style where a proxy drops the " +
			"Authorization header",
		ApplicationUnknown: "check that tenant_id is the id of the tenant, auth.client_id the application (client) id of an " +
			"app registration in it, and cloud their cloud",
		ApplicationDisabled: "enable the enterprise application (service principal) of auth.client_id in this tenant, or " +
			"create it by granting admin consent",
		AssertionExpired: "set the clock of the collector's host; with auth.federated_token_file also check that the file is " +
			"still being renewed, since the assertion is outside its time of validity",
		AssertionAudience: "check auth.token_url and auth.authority, since the assertion must be addressed to the endpoint " +
			"that gets it",
		CertificateNotRegistered: "upload the first certificate in auth.client_certificate's cert_file to the app " +
			"registration of auth.client_id, and check that it has not expired",
		FederationMismatch: "make the issuer, subject and audience of the app registration's federated credential equal to " +
			"those of the token in auth.federated_token_file, and auth.client_id that app's id",
		ConditionalAccess: "let the service principal of auth.client_id sign in from the collector's address: a Conditional " +
			"Access policy for workload identities blocks it",
		ScopeWrong: "check that auth.scope (or the scope of the authenticator in graph.auth) is graph.endpoint of this cloud " +
			"followed by /.default, as it is when left empty, and that tenant_id and cloud belong together",
		TokenRequestRefused: "check tenant_id, cloud, auth.client_id, the credential under auth, auth.authority and " +
			"auth.token_url, and look the code up at https://login.microsoftonline.com/error",
		CredentialExpiring: "create a new secret or certificate for this app registration and set it under auth; a file is read again without a " +
			"restart",

		PermissionMissing: grant + "AiEnterpriseInteraction.Read.All of Microsoft Graph, with admin consent; if it is " +
			"granted, check the Microsoft 365 Copilot licenses and their billing, and that no other collector uses this app " +
			"registration",
		UsersPermissionMissing: grant + "User.Read.All of Microsoft Graph, with admin consent; until then records have no directory " +
			"properties, and the history is only read for users already seen or named in history.users",
		LicenseMissing: "assign Microsoft 365 Copilot licenses in this tenant, or take users without one out of " +
			"subscription.users and history.users",
		NotOffered: "check cloud and graph.endpoint: this installation of Microsoft Graph does not offer Copilot " +
			"interactions or their history; if it is the right one, set history.enabled: false",
		UsersNotListed: "name the users in history.users, and check cloud and graph.endpoint: this installation of Microsoft " +
			"Graph does not list users by their license",
		UserUnknown: "check that history.users and subscription.users hold object ids of users of this tenant",
		NotificationURLUnreachable: "make subscription.notification_url reachable for Microsoft: public DNS name, a " +
			"certificate with its whole chain from a public CA, TLS 1.2 or later, and an ingress or firewall that lets a POST " +
			"with a query string through to the receiver's webhook within 10 s",
		LifetimeTooLong: "set subscription.lifetime to less than 72h, and set the clock of the collector's host",
		EncryptionCertificateRefused: "check the first of encryption.certificates: an X.509 certificate with an RSA key of " +
			"2048 to 4096 bits in PEM",
		RequestRefused: "read Graph's message, and check graph.endpoint, cloud and the keys under subscription; Microsoft " +
			"support finds the call by its request-id",
		SubscriptionInterrupted: "nothing to do: it is created or renewed again, and what Graph does not send meanwhile is read from the history; if " +
			"it lasts, the line about the failing subscription says why, and if it happens often, look for another program that deletes it",
		SubscriptionConflict: "delete the other subscription, or set subscription.replace_foreign: true to replace it, or give this collector an app " +
			"registration of its own, since Graph allows one tenant-wide subscription for each; the receiver adopts one of its own by itself",
		SubscriptionKeyConflict: "give all receivers at this URL the same encryption.certificates, or each an app registration and a notification_url of its own; " +
			"until then the one without the subscription has only the history",
		HandshakePathsDiffer: "make webhook.path equal to the path that requests arrive with, that of subscription.notification_url unless an ingress " +
			"rewrites it: " + requestedHere,
		HandshakeNotRouted: "make the ingress route to the webhook and keep the path: " + requestedHere,
		HandshakeRefused:   "make the ingress let a POST with a query string through to the webhook, without login and redirect: " + requestedHere,
		PublicNameNotResolved: "publish an address (A or AAAA record) for %s in the public DNS, or correct subscription.notification_url; if only this " +
			"machine can't resolve it, run the doctor outside of its network",
		PublicAddressUnreachable: "let HTTPS connections to %s through the firewall and the ingress; Microsoft lists the addresses that they come " +
			"from; if only this machine can't connect, run the doctor outside of its network",
		PublicCertificate: "serve at %s a certificate for this name from a public CA, not expired, followed by its intermediate certificates",
		PublicTLSVersion:  "let %s answer with TLS 1.2 or later, which Graph requires, and with a certificate for this name",
		HandshakeAltered: "make what answers at subscription.notification_url return the decoded validation token as text/plain and nothing else: " +
			"something between it and the webhook answers or changes the response",

		ListenAddressInUse:   "stop the program that listens there, or choose another port in webhook.endpoint",
		ListenPortForbidden:  "choose a port of 1024 or higher in webhook.endpoint, or let this process bind lower ones (CAP_NET_BIND_SERVICE)",
		ListenAddressInvalid: "write webhook.endpoint as host:port, with an address of this machine, or 0.0.0.0 for all of them",
		ListenerCertificate:  "check the certificate and key of webhook.tls, and that this process may read them",
		ListenerDied:         "restart the collector",
		ValidationAtOtherPath: "if Microsoft Graph sent it, set webhook.path to the path that requests arrive with: that of " +
			"subscription.notification_url, unless an ingress rewrites it",
		BodyTooLarge: "if Microsoft Graph sent it, only the history still has it after 4 hours of retries: raise webhook.max_request_body_size and " +
			"webhook.max_in_flight_bytes; if interactions are not missing, somebody else sends such bodies",
		ConnectionFailed: "if Microsoft Graph can't connect, check webhook.tls; anybody else who connects can cause this as well",
		ForeignClientState: "nothing to do for forgeries; a subscription made with another encryption key or by another receiver is replaced or " +
			"expires within 3 days",
		OtherTenant: "check tenant_id",
		TokensMissing: "in Entra ID > Enterprise apps > Properties set \"Assignment required\" (appRoleAssignmentRequired) to No, or " +
			"grant the service principal Microsoft Graph Change Tracking an app role of the application",
		TokenIssuer:             "check tenant_id, cloud and auth.authority, or add the issuer to auth.issuers",
		TokenAudience:           "add the audience to auth.audiences if it is yours",
		TokenPublisher:          "replace the encryption key: another application sent the token and knows the client state",
		ClockWrong:              "check the clock of this machine",
		NotificationAltered:     "check the proxies between Microsoft Graph and webhook.endpoint, which must not change a request",
		NotificationUnsupported: "update this receiver, and report it if the newest version says the same",
		CertificateMissing: "add the certificate that the content was encrypted for to encryption.certificates until Graph uses a new one; if it is " +
			"there under the same id, delete the subscription so that it is recreated",
		ContentMissing: "nothing to do, the history has the content; if this happens often, delete the subscription, which was created without " +
			"includeResourceData",
		TooManyItems: "raise webhook.max_in_flight_bytes; these items are read from the history",

		HistoryInconclusive: "the history has far fewer interactions than notifications have brought, so it proves nothing, and the time is compared once more: " +
			"check that AiEnterpriseInteraction.Read.All is granted, and whether a retention policy deletes interactions",
		DedupeCacheTooSmall:   "the dedupe cache is too small to know what was delivered: %s",
		DeliveriesUnknown:     "after an unclean end, or a damaged value in storage, it is not known what was delivered: check the storage extension",
		HistoryOfUsersFailing: "nothing to do: the history of some users can't be read, and is compared as soon as it can be",
		HistoryUnreadable:     "report the error to the receiver's project; the interaction is not delivered",
		HistoryTooOld:         "read it with history.replay as far as Microsoft keeps it, and raise history.max_gap if the collector may be down for longer than that",
		GapNotRead: "see the checks of permissions, subscriptions and history, and what the collector logs about the history: it is read as soon " +
			"as the cause is over, as far as history.max_gap reaches",
	}
}
