package receiver

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// sweepSpacing is how often the refused notifications are looked through.
const sweepSpacing = 10 * time.Second

// run is everything that happens in the background, until ctx ends. The gate opens only once what was delivered in
// earlier runs is loaded.
func (r *Receiver) run(ctx context.Context) {
	defer r.rooms.gate.end()
	if err := r.rooms.load(ctx); err != nil && ctx.Err() == nil {
		r.set.Logger.Warn("storage can't be read, what earlier runs kept is not known", zap.Error(err))
	}
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { r.rooms.intake.Run(ctx) })
	loops.Go(func() { r.sweep(ctx) })
	loops.Go(func() { r.rooms.filler.Run(ctx) })
	if len(r.settings.Resources) > 0 {
		r.subscribe(ctx)
	}
}

func (r *Receiver) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepSpacing)
	defer ticker.Stop()
	for now := time.Now(); ; {
		r.rooms.refused.sweep(ctx, now)
		r.rooms.silence.save(ctx)
		if len(r.settings.Resources) == 0 { // nobody else checks
			r.rooms.continuity.check(ctx, now)
		}
		select {
		case <-ctx.Done():
			return
		case now = <-ticker.C:
		}
	}
}
