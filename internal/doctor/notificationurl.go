package doctor

import "context"

func (t *target) checkNotificationURL(context.Context) []Check {
	return []Check{skipped("not built yet")}
}
