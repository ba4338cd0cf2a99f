package translate

import "go.opentelemetry.io/collector/pdata/pcommon"

// fillResource describes the Copilot service of one tenant.
func fillResource(resource pcommon.Resource, tenantID string) {
	attributes := resource.Attributes()
	attributes.PutStr(attrServiceName, serviceName)
	putString(attributes, attrTenantID, tenantID)
}
