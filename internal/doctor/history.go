package doctor

import "context"

func (t *target) checkHistory(context.Context) []Check { return []Check{skipped("not built yet")} }
