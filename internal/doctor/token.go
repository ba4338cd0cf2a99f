package doctor

import "context"

func (t *target) checkToken(context.Context) []Check { return []Check{skipped("not built yet")} }

func (t *target) checkPermissions(context.Context) []Check { return []Check{skipped("not built yet")} }

func (t *target) checkLicenses(context.Context) []Check { return []Check{skipped("not built yet")} }
