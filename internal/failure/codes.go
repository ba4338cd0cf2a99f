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
	StorageFailing       Code = "COP001"
	StorageDamaged       Code = "COP002"
	CertificateFiles     Code = "COP003"
	ComponentPanicked    Code = "COP004"
	MetricsNotDelivered  Code = "COP005"
	LogsPipelineRefusing Code = "COP006"

	// The numbers from COP330 on are those of subscriptions.
	SubscriptionConflict    Code = "COP330"
	SubscriptionKeyConflict Code = "COP331"
	ExpirationPassed        Code = "COP332"
	HandshakePathsDiffer    Code = "COP333"
	HandshakeNotRouted      Code = "COP334"
	HandshakeRefused        Code = "COP335"
	HandshakeUnanswered     Code = "COP336"
)

// hints returns the hint of each code, some with verbs of package fmt.
func hints() map[Code]string {
	return map[Code]string{
		StorageFailing:       "check the storage extension and the disk it writes to; until it works again, state is kept in memory and a crash loses it",
		StorageDamaged:       "nothing to do: the value is replaced, and what it held is read again from the history",
		CertificateFiles:     "write the files of encryption.certificates again, or restore them",
		ComponentPanicked:    "the stack names the component that panicked: report it to its maintainers",
		MetricsNotDelivered:  "check the exporters of the metrics pipeline; the next values contain these",
		LogsPipelineRefusing: "check the exporters of the logs pipeline; Microsoft Graph sends again what was not taken",

		SubscriptionConflict: "delete that subscription, use another app registration, or set subscription.replace_foreign: true to replace it",
		SubscriptionKeyConflict: "give all receivers at this URL the same encryption.certificates, or each an app registration and a notification_url of its own; " +
			"until then they alternate, an hour each",
		ExpirationPassed:     "set the clock of the collector's host",
		HandshakePathsDiffer: "make webhook.path equal to the path of subscription.notification_url, unless an ingress rewrites the path: " + handshakeAnswered,
		HandshakeNotRouted:   "make the ingress route to the webhook and keep the path: " + handshakeAnswered,
		HandshakeRefused:     "make the ingress let a POST with a query string through to the webhook, without login and redirect: " + handshakeAnswered,
		HandshakeUnanswered: "make subscription.notification_url reachable for Microsoft: public DNS name, a certificate with its whole chain from a public CA, " +
			"TLS 1.2 or later, and an ingress or firewall that lets a POST with a query string through within 10 s; Graph requests %[1]q, and " + webhookServes,
	}
}

// The verbs of the hints about handshakes are the path that Graph requested, the status that it received, and the path and
// address of the webhook.
const (
	handshakeAnswered = "Graph requested %[1]q and a server answered with %[2]s, while " + webhookServes
	webhookServes     = "the webhook serves %[3]q (webhook.path) on %[4]s (webhook.endpoint)"
)
