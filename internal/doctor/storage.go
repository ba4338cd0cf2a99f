package doctor

import "context"

func (t *target) checkStorage(context.Context) []Check { return []Check{skipped("not built yet")} }
