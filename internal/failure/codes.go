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
	}
}
