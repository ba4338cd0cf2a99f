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

	HistoryInconclusive   Code = "COP510"
	DedupeCacheTooSmall   Code = "COP511"
	DeliveriesUnknown     Code = "COP512"
	HistoryOfUsersFailing Code = "COP513"
	HistoryUnreadable     Code = "COP514"
	HistoryTooOld         Code = "COP515"
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

		HistoryInconclusive: "the history has far fewer interactions than notifications have brought, so it proves nothing, and the time is compared once more: " +
			"check that AiEnterpriseInteraction.Read.All is granted, and whether a retention policy deletes interactions",
		DedupeCacheTooSmall:   "the dedupe cache is too small to know what was delivered: raise dedupe.max_entries to %d",
		DeliveriesUnknown:     "after an unclean end, or a damaged value in storage, it is not known what was delivered: check the storage extension",
		HistoryOfUsersFailing: "nothing to do: the history of some users can't be read, and is compared as soon as it can be",
		HistoryUnreadable:     "report the error to the receiver's project; the interaction is not delivered",
		HistoryTooOld:         "raise history.max_gap if the collector may be down for longer than that",
	}
}
