// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const (
	progressInterval = 5 * time.Second
	// drainTime is how long the simulation waits at its end for notifications in flight.
	drainTime = 5 * time.Second
	// retryDelay is shorter than that of Graph, so that retries can be seen in a demonstration.
	retryDelay = time.Second
	// maxRetryDelay is far shorter than that of Graph, since a demonstration compares the history with what arrived after half a minute:
	// what Graph still retries then would be recovered, and look lost.
	maxRetryDelay = 5 * time.Second
	// historySize is how many interactions a simulation with a history keeps, those of maxHistory and of some days of live turns.
	historySize = 1_000_000
	// historyLimit is above that of Graph, so that a demonstration that raises history.requests_per_second need not wait for its history.
	historyLimit = 300
	// historyAge is the least age of the history, more than that of a turn when it is published: all turns are newer than the history.
	historyAge = 10 * time.Second
)

// errNothingDelivered is returned if no interaction was acknowledged although -require-delivery is set.
var errNothingDelivered = errors.New("no interaction was acknowledged; is the collector running, and does its notification_url lead to its webhook?")

// simulate runs until ctx ends or the duration has passed.
func simulate(ctx context.Context, o options, log *slog.Logger) (err error) {
	settings, err := o.emulatorSettings(log)
	if err != nil {
		return err
	}
	emulator := graphtest.New(settings)
	defer emulator.Close()
	o.faults.apply(emulator)
	people := setCompany(emulator, o)
	published, err := createPublished(o.published, people)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, published.close()) }()
	turns, err := o.turns(emulator, people, published, log)
	if err != nil {
		return err
	}
	base, err := emulator.Start(o.listen)
	if err != nil {
		return err
	}
	log.Info("listening", "graph_endpoint", base, "authority", base, "tenant_id", settings.TenantID, "client_id", settings.ClientID)

	// Draining may take a while, and a restarted simulation needs the address immediately.
	defer context.AfterFunc(ctx, emulator.StopListening)()

	running, cancel := context.WithCancel(ctx)
	if o.duration > 0 {
		running, cancel = context.WithTimeout(ctx, o.duration)
	}
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() { watchSubscriptions(running, emulator, log) })
	work.Go(func() { every(running, progressInterval, func() { progress(emulator, log, "progress") }) })
	if o.reauthorize > 0 {
		work.Go(func() { every(running, o.reauthorize, func() { reauthorize(running, emulator, log) }) })
	}
	if o.incident > 0 {
		work.Go(func() { breakIngress(running, emulator, o, log) })
	}
	if o.published != "" {
		work.Go(func() { every(running, flushInterval, published.flush) })
	}
	publishTurns(running, emulator, turns, published, o, log)
	work.Wait()

	drain(ctx, emulator)
	progress(emulator, log, "summary")
	if o.requireDelivery && emulator.Stats().Acknowledged == 0 {
		return errNothingDelivered
	}
	return nil
}

func (o options) emulatorSettings(log *slog.Logger) (graphtest.Settings, error) {
	settings := o.settings
	settings.Seed = o.seed
	settings.RetryDelay, settings.MaxRetryDelay = retryDelay, maxRetryDelay
	if o.history > 0 {
		settings.HistorySize, settings.HistoryLimit = historySize, historyLimit
	}
	if o.tlsDir == "" {
		return settings, nil
	}
	pair, made, err := serverPair(o.tlsDir, time.Now())
	if err != nil {
		return settings, fmt.Errorf("the certificate of the webhook: %w", err)
	}
	log.Info("certificate of the webhook", "directory", o.tlsDir, "made", made)
	settings.RootCAs, err = pair.Pool()
	return settings, err
}

// setCompany makes an invented company the directory of the tenant, and returns its licensed people.
func setCompany(emulator *graphtest.Emulator, o options) (licensed []graphtest.Person) {
	people := graphtest.Company(o.seed, (o.users*4+2)/3) // three quarters of them, rounded down, are licensed
	var unlicensed []string
	for _, p := range people {
		if p.Licensed {
			licensed = append(licensed, p)
		} else {
			unlicensed = append(unlicensed, p.ID)
		}
	}
	emulator.SetDirectory(people...)
	emulator.SetUnlicensed(unlicensed...)
	return licensed
}

// nextTurn returns the interactions of a turn that has just ended.
type nextTurn func(now time.Time) []graphtest.Interaction

// turns returns what makes the turns of the people. With -history, it adds their history first.
func (o options) turns(emulator *graphtest.Emulator, people []graphtest.Person, published *publishedFile, log *slog.Logger) (nextTurn, error) {
	if o.history == 0 {
		settings := graphtest.TurnSettings{TenantID: o.settings.TenantID}
		for _, p := range people {
			settings.UserIDs = append(settings.UserIDs, p.ID)
		}
		return graphtest.NewTurns(o.seed, settings).Next, nil
	}
	workforce := graphtest.NewWorkforce(o.seed, people, graphtest.WorkforceSettings{TenantID: o.settings.TenantID})
	now := time.Now()
	end := now.Add(-historyAge)
	begin := end.Add(-o.history)
	history := workforce.History(begin, end)
	if err := emulator.AddHistory(history...); err != nil {
		return nil, fmt.Errorf("-history: %w", err)
	}
	published.add(true, history...)
	published.flush()
	log.Info("history made", "interactions", len(history), "from", begin, "took", time.Since(now).Round(time.Millisecond))
	return workforce.Next, nil
}

// turnSchedule returns the interval at which turns are published, and how many are due after an elapsed time.
func turnSchedule(turnsPerMinute float64) (interval time.Duration, due func(elapsed time.Duration) int) {
	interval = max(time.Duration(float64(time.Minute)/turnsPerMinute), 10*time.Millisecond)
	return interval, func(elapsed time.Duration) int { return int(elapsed.Minutes()*turnsPerMinute + 1e-6) }
}

// publishTurns publishes turns until ctx ends, with -await-subscription from the first subscription on.
func publishTurns(
	ctx context.Context, emulator *graphtest.Emulator, next nextTurn, published *publishedFile, o options, log *slog.Logger,
) {
	if o.awaitSubscription {
		if _, err := emulator.WaitSubscribed(ctx); err != nil {
			return // ctx has ended
		}
	}
	interval, due := turnSchedule(o.turnsPerMinute)
	begin, done := time.Now(), 0
	every(ctx, interval, func() {
		now := time.Now()
		for wanted := due(now.Sub(begin)); done < wanted && ctx.Err() == nil; done++ {
			turn := next(now)
			published.add(false, turn...)
			if _, err := emulator.Publish(ctx, turn...); err != nil && ctx.Err() == nil {
				log.Warn("a turn was not published", "error", err)
			}
		}
	})
}

// every calls f at each interval until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

func reauthorize(ctx context.Context, emulator *graphtest.Emulator, log *slog.Logger) {
	n, err := emulator.SendLifecycle(ctx, graphtest.ReauthorizationRequired)
	if err != nil && ctx.Err() == nil {
		log.Warn("reauthorizationRequired was not sent", "error", err)
		return
	}
	log.Info("reauthorizationRequired sent", "subscriptions", n)
}

// watchSubscriptions logs created, renewed and ended subscriptions until ctx ends.
func watchSubscriptions(ctx context.Context, emulator *graphtest.Emulator, log *slog.Logger) {
	known := map[string]graphtest.Subscription{}
	for {
		var current map[string]graphtest.Subscription
		err := emulator.Wait(ctx, func(graphtest.Stats) bool {
			current = byID(emulator.Subscriptions())
			return changed(known, current)
		})
		if err != nil {
			return
		}
		for id, s := range current {
			switch old, was := known[id]; {
			case !was:
				log.Info("subscription created", "id", id, "resource", s.Resource, "notification_host", host(s.NotificationURL), "expires", s.Expiration)
			case !old.Expiration.Equal(s.Expiration):
				log.Info("subscription renewed", "id", id, "expires", s.Expiration)
			}
		}
		for id := range known {
			if _, found := current[id]; !found {
				log.Info("subscription ended", "id", id)
			}
		}
		known = current
	}
}

func byID(subscriptions []graphtest.Subscription) map[string]graphtest.Subscription {
	found := map[string]graphtest.Subscription{}
	for _, s := range subscriptions {
		found[s.ID] = s
	}
	return found
}

func changed(known, current map[string]graphtest.Subscription) bool {
	if len(known) != len(current) {
		return true
	}
	for id, s := range current {
		if old, was := known[id]; !was || !old.Expiration.Equal(s.Expiration) {
			return true
		}
	}
	return false
}

func host(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}

// drain waits for notifications in flight, even if ctx has ended.
func drain(ctx context.Context, emulator *graphtest.Emulator) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	_ = emulator.WaitIdle(ctx) // unacknowledged interactions show in the summary
}

func progress(emulator *graphtest.Emulator, log *slog.Logger, message string) {
	s := emulator.Stats()
	log.Info(message,
		"subscriptions", s.Subscriptions,
		"interactions", s.Published,
		"offered", s.Offered,
		"acknowledged", s.Acknowledged,
		"in_flight", s.Offered-s.Acknowledged-s.Lost,
		"lost", s.Lost,
		"attempts_refused", s.Refused,
		"slowest_answer", s.MaxLatency.Round(time.Millisecond),
		"history_requests", s.Requests[graphtest.OpHistory],
		"directory_requests", s.Requests[graphtest.OpUsers]+s.Requests[graphtest.OpUser],
	)
}
