package receiver

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// sweepRefused is how often the refused notifications are looked through.
const sweepRefused = 10 * time.Second

// run is everything that happens in the background, until ctx ends. The gate opens only once what was delivered in
// earlier runs is loaded.
func (r *Receiver) run(ctx context.Context) {
	if err := r.rooms.load(ctx); err != nil && ctx.Err() == nil {
		r.set.Logger.Warn("storage can't be read, what earlier runs kept is not known", zap.Error(err))
	}
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { r.rooms.intake.Run(ctx) })
	loops.Go(func() { r.sweep(ctx) })
	if r.settings.History.Enabled {
		loops.Go(func() { r.rooms.filler.Run(ctx) })
	}
	if len(r.settings.Resources) == 0 {
		r.rooms.continuity.alone(ctx, time.Now())
		return
	}
	r.subscribe(ctx)
}

func (r *Receiver) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepRefused)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			r.rooms.refused.sweep(ctx, now)
		}
	}
}
