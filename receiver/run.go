package receiver

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// sweepInterval is how often the refused notifications are looked through.
const sweepInterval = 10 * time.Second

// run is everything that happens in the background, until ctx ends. The gate opens only once what was delivered in
// earlier runs is loaded.
func (r *Receiver) run(ctx context.Context) {
	defer r.components.session.end()
	if err := r.components.load(ctx); err != nil && ctx.Err() == nil {
		r.set.Logger.Warn("storage can't be read, what earlier runs kept is not known", zap.Error(err))
	}
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { r.components.intake.Run(ctx) })
	loops.Go(func() { r.sweepLoop(ctx) })
	loops.Go(func() { r.components.filler.Run(ctx) })
	if len(r.settings.Resources) > 0 {
		r.subscribe(ctx)
	}
}

func (r *Receiver) sweepLoop(ctx context.Context) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for now := time.Now(); ; {
		r.components.undelivered.openExpired(ctx, now)
		r.components.silence.save(ctx)
		if len(r.settings.Resources) == 0 { // nobody else checks
			r.components.gapTracker.check(ctx, now)
		}
		select {
		case <-ctx.Done():
			return
		case now = <-ticker.C:
		}
	}
}
