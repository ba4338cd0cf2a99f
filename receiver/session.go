package receiver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// session holds the current decrypter and subscription manager. The webhook listens before the encryption key exists, so
// requests wait until the first ones are set. Nothing authentic can arrive before, since no subscription names the key.
type session struct {
	logger      *zap.Logger
	occasional  *occasionalLog
	undelivered *undelivered
	// reached is called for everything that certainly came from Graph.
	reached func(at time.Time)

	once sync.Once
	// ready is closed once current is set for the first time.
	ready chan struct{}
	// ended is closed once current will not be set any more.
	ended chan struct{}
	// current is nil before the first keys. handover is held for reading while its manager is woken, and for writing while
	// it is replaced.
	current  atomic.Pointer[sessionState]
	handover sync.RWMutex
	// lastAuthentic is when the last authentic notification arrived; nil before the first.
	lastAuthentic atomic.Pointer[time.Time]
}

// sessionState is what uses the current encryption keys.
type sessionState struct {
	decrypter *notification.Decrypter
	manager   *subscription.Manager
}

// errNoKey is returned if the receiver shuts down before it has a key.
var errNoKey = errors.New("there is no encryption key")

func newSession(logger *zap.Logger, undelivered *undelivered, reached func(at time.Time)) *session {
	return &session{logger: logger, occasional: newOccasionalLog(), undelivered: undelivered, reached: reached, ready: make(chan struct{}), ended: make(chan struct{})}
}

// set replaces the decrypter and the manager. Events that the previous manager, which has ended, did not handle are passed
// to the new one.
func (s *session) set(decrypter *notification.Decrypter, manager *subscription.Manager) {
	s.handover.Lock()
	earlier := s.current.Swap(&sessionState{decrypter: decrypter, manager: manager})
	s.handover.Unlock()
	s.once.Do(func() { close(s.ready) })
	if earlier == nil {
		return
	}
	for _, event := range earlier.manager.Drain() {
		manager.Wake(event)
	}
}

// drainEvents has the manager, which has ended, report the events that arrived since.
func (s *session) drainEvents() {
	if b := s.current.Load(); b != nil {
		b.manager.Drain()
	}
}

// end releases requests that still wait for the first decrypter. It is called once.
func (s *session) end() { close(s.ended) }

// ClientStates implements webhook.Decrypter. It waits for the first decrypter until ctx ends.
func (s *session) ClientStates(ctx context.Context) (func(clientState []byte) bool, error) {
	decrypter, err := s.waitDecrypter(ctx)
	if err != nil {
		s.warn(err)
		return nil, err
	}
	ours, err := decrypter.ClientStates()
	if err != nil {
		s.warn(err)
	}
	return ours, err
}

// warn logs why notifications are not decrypted.
func (s *session) warn(err error) {
	if count, ok := s.occasional.due("decrypt", time.Now()); ok {
		s.logger.Warn("notifications can't be decrypted now, Graph retries them", zap.Int("count", count), zap.Error(err))
	}
}

// Decrypt implements webhook.Decrypter. It waits for the first decrypter until ctx ends. The collection holds only items
// with a valid clientState, so items that can't be verified now were sent by Graph.
func (s *session) Decrypt(ctx context.Context, collection *notification.Collection, at time.Time) (notification.Decrypted, error) {
	decrypted, err := s.decrypt(ctx, collection, at)
	if err == nil && authenticated(len(collection.Items), decrypted) {
		s.lastAuthentic.Store(&at)
	}
	if err != nil && s.current.Load() != nil || authentic(decrypted) {
		s.reached(at)
	}
	if err != nil {
		s.warn(err)
		if s.current.Load() != nil { // an item had a valid clientState, and its tokens could not be verified
			s.undelivered.trackUnopened(collection.Items, at)
		}
	}
	return decrypted, err
}

// authenticated reports whether validation tokens proved that any of the given number of items was sent by Graph. Items
// that were delivered before are counted too, although they leave nothing in decrypted.
func authenticated(items int, decrypted notification.Decrypted) bool {
	for i := range decrypted.Rejected {
		if gap := decrypted.Rejected[i].Gap; gap != notification.GapUndecryptable && gap != notification.GapEmpty {
			items--
		}
	}
	return items > 0
}

// notificationAge returns how long ago the last authentic notification arrived; false before the first.
func (s *session) notificationAge(now time.Time) (time.Duration, bool) {
	at := s.lastAuthentic.Load()
	if at == nil {
		return 0, false
	}
	return max(now.Sub(*at), 0), true
}

// authentic reports whether any item was sent by Graph.
func authentic(decrypted notification.Decrypted) bool {
	return len(decrypted.Received)+len(decrypted.Lifecycle) > 0 ||
		slices.ContainsFunc(decrypted.Rejected, func(r notification.Rejection) bool { return r.Gap != "" })
}

func (s *session) decrypt(ctx context.Context, collection *notification.Collection, at time.Time) (notification.Decrypted, error) {
	decrypter, err := s.waitDecrypter(ctx)
	if err != nil {
		return notification.Decrypted{}, err
	}
	return decrypter.Decrypt(ctx, collection, at)
}

func (s *session) waitDecrypter(ctx context.Context) (*notification.Decrypter, error) {
	select {
	case <-s.ready:
	case <-s.ended:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the encryption key: %w", ctx.Err())
	}
	if b := s.current.Load(); b != nil {
		return b.decrypter, nil
	}
	return nil, errNoKey
}

// Wake implements webhook.Lifecycle.
func (s *session) Wake(event notification.Lifecycle) {
	s.handover.RLock()
	defer s.handover.RUnlock()
	if b := s.current.Load(); b != nil {
		b.manager.Wake(subscription.Event{SubscriptionID: event.SubscriptionID, Kind: event.Event})
	}
}

func (s *session) timeLeft(now time.Time) (time.Duration, bool) {
	b := s.current.Load()
	if b == nil {
		return 0, false
	}
	return b.manager.TimeLeft(now)
}

// deleteSubscriptions must be called after the manager has ended.
func (s *session) deleteSubscriptions(ctx context.Context) error {
	b := s.current.Load()
	if b == nil {
		return nil
	}
	if err := b.manager.Delete(ctx); err != nil {
		return fmt.Errorf("delete the subscription: %w", err)
	}
	return nil
}

// subscribe maintains the subscriptions until ctx ends, with new keys whenever the key files change.
func (r *Receiver) subscribe(ctx context.Context) {
	ring := r.components.ring
	if len(ring) == 0 {
		var err error
		if ring, err = r.components.keys.generated(ctx); err != nil {
			r.status.fatal(err)
			return
		}
		if r.settings.Storage == nil {
			r.set.Logger.Warn("generated an encryption key that is kept in memory only: after a restart the subscription is replaced, and notifications in flight can't be decrypted; name a storage extension in storage, or configure encryption.certificates",
				zap.String("certificate_id", ring[0].CertificateID()))
		}
	}
	for ctx.Err() == nil {
		if r.components.keys.missing(ctx, ring) {
			r.components.gapTracker.removedKey(ctx, time.Now())
		}
		r.components.keys.accept(ctx, ring)
		ring = r.subscribeWith(ctx, ring)
	}
}

// subscribeWith maintains the subscriptions with the keys of the ring until ctx ends or the keys change, and returns the
// keys to use next.
func (r *Receiver) subscribeWith(ctx context.Context, ring notification.Ring) notification.Ring {
	states, err := r.clientStates(ring[0])
	if err != nil {
		r.status.fatal(err)
		<-ctx.Done()
		return ring
	}
	manager := subscription.New(subscription.Settings{
		Resources:          r.settings.Resources,
		ChangeTypes:        r.settings.ChangeTypes,
		NotificationURL:    r.settings.NotificationURL,
		Webhook:            subscription.Webhook{Path: r.settings.WebhookPath, Address: r.components.server.Addr().String()},
		Lifetime:           r.settings.Lifetime,
		CheckInterval:      r.settings.CheckInterval,
		ReplaceForeign:     r.settings.ReplaceForeign,
		Certificate:        subscription.Certificate{ID: ring[0].CertificateID(), DER: ring[0].CertificateDER()},
		HeldCertificateIDs: certificateIDs(ring),
		Known:              r.components.gapTracker.known(ctx),
		RenewOnAdopt:       !r.components.gapTracker.recent(time.Now()),
		ClientState:        func(resource string) string { return states[resource] },
		Graph:              r.components.clients.graph,
		Observer:           r.components.gapTracker,
		Telemetry:          r.telemetry,
		Logger:             r.set.Logger,
		Status:             r.status.part("subscription"),
	})
	r.components.session.set(notification.NewDecrypter(notification.Settings{
		TenantID:  r.settings.TenantID,
		ClientID:  r.settings.ClientID,
		Audiences: r.settings.Audiences,
		Issuers:   r.settings.Issuers,
		Resources: r.settings.Resources,
		Ring:      ring,
		Keys:      r.components.signingKeys,
		Seen:      deliveredCheck{deduplicator: r.components.deduplicator, undelivered: r.components.undelivered},
		Telemetry: r.telemetry,
	}), manager)

	r.components.gapTracker.unwatched()

	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		manager.Run(running)
	}()
	newKeys, changed := r.components.keys.changed(ctx)
	stop()
	<-ended
	if !changed {
		return ring
	}
	r.set.Logger.Info("the encryption certificates changed", zap.Strings("certificate_ids", certificateIDs(newKeys)))
	return newKeys
}

// clientStates maps each resource to the clientState that Graph must present.
func (r *Receiver) clientStates(key *notification.Key) (map[string]string, error) {
	states := make(map[string]string, len(r.settings.Resources))
	for _, resource := range r.settings.Resources {
		state, err := notification.ClientState(key, r.settings.TenantID, r.settings.ClientID, resource)
		if err != nil {
			return nil, fmt.Errorf("derive the client state: %w", err)
		}
		states[resource] = state
	}
	return states, nil
}
