package dedupe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
)

// maxReadFailures is how many failing reads in a row mean that the store can't be read at all.
const maxReadFailures = 3

// lookahead is how many chunks may be missing in a row before those after them are given up.
const lookahead = 4

// loadState is what a start finds in the store.
type loadState struct {
	store Store
	// chunks and segments are what could be read, the oldest first.
	chunks, segments []storedSegment
	// index is the number of the oldest chunk.
	index uint64
	// found are the keys of the chunks, readable or not; useless are other keys that are good for nothing.
	found, useless []string
	// broken is true if the index or a chunk could not be read, unreadable if nothing could.
	broken, unreadable bool
	// problems counts the values that could not be read; example is the first reason.
	problems int
	example  error
	// failures counts reads that failed one after another.
	failures int
}

// load fills the window with what the store has, and makes the store sound where it is not.
func (l *journal) load(ctx context.Context) error {
	r := &loadState{store: l.store}
	r.readSegments(ctx)
	r.readChunks(ctx)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read what was delivered before: %w", err)
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.restore(r, time.Now())
	var err error
	if l.incomplete || len(l.stale) > 0 {
		err = l.merge(ctx)
	}
	if r.problems == 0 {
		l.report(err)
		return nil
	}
	l.failing = err != nil
	l.logger.Warn("part of what was delivered before can't be read from the storage and is replaced: what Microsoft Graph sends again of it is delivered again",
		zap.Int("values", r.problems), zap.Error(r.example), zap.NamedError("replacing", err))
	return nil
}

// restore fills the window. Where a chunk is broken, all of them are written anew under other numbers.
func (l *journal) restore(r *loadState, now time.Time) {
	l.indexed = r.index
	for _, key := range r.useless {
		l.stale[key] = struct{}{}
	}
	next := r.index
	for _, p := range r.chunks {
		next = max(next, p.number+1)
		l.merged = max(l.merged, p.reference)
	}
	if r.unreadable {
		// By the clock, what will be written gets greater numbers than what is there, and so is younger.
		clock := uint64(max(now.UnixNano(), 0))
		l.merged, next = clock, clock
	}
	l.window.startAt(next)
	if r.broken {
		l.indexed = unknown
		l.incomplete = true
		for _, key := range r.found {
			l.stale[key] = struct{}{}
		}
	}
	for _, p := range r.chunks {
		if r.broken {
			l.window.add(p.records, now)
		} else {
			l.window.restore(p, now)
		}
	}
	l.last = l.merged
	for _, p := range r.segments {
		if p.number <= l.merged {
			continue
		}
		l.last = p.number
		if l.window.add(p.records, now) > 0 {
			l.incomplete = true
		}
	}
	if l.incomplete {
		// Until they are merged, no segment is free.
		l.used = segmentCount
	}
}

// readChunks follows the chunks from the oldest on. If nothing tells which that is, it looks at every key.
func (r *loadState) readChunks(ctx context.Context) {
	if r.hopeless(ctx) {
		r.broken, r.unreadable = true, true
		return
	}
	index, found, err := r.get(ctx, indexKey)
	if err == nil && !found && slices.ContainsFunc(r.segments, func(p storedSegment) bool { return p.reference > 0 }) {
		err = fmt.Errorf("read %s: %w", indexKey, errMissing)
		r.problem(err)
	}
	if err != nil {
		r.broken = true
		for n := uint64(0); n < chunkKeys && !r.hopeless(ctx); n++ {
			r.readChunk(ctx, n)
		}
		slices.SortFunc(r.chunks, byNumber)
		return
	}
	r.index = index.number
	r.follow(ctx)
	r.findLeftovers(ctx)
}

// follow reads the chunks from the index on, past those that are broken or missing.
func (r *loadState) follow(ctx context.Context) {
	absent := 0
	for n := r.index; n-r.index < chunkKeys && absent <= lookahead && !r.hopeless(ctx); n++ {
		if !r.readChunk(ctx, n) {
			absent++
			continue
		}
		if absent > 0 {
			r.broken = true
			r.problem(fmt.Errorf("read %s: %w", chunkKey(n-1), errMissing))
		}
		absent = 0
	}
}

// findLeftovers looks for chunks that the index does not know any more, but that a kill -9 kept from being deleted.
func (r *loadState) findLeftovers(ctx context.Context) {
	for n := r.index; n > 0 && r.index-n < chunkKeys; n-- {
		if value, err := r.store.Get(ctx, chunkKey(n-1)); err != nil || value == nil {
			return
		}
		r.useless = append(r.useless, chunkKey(n-1))
	}
}

// readChunk returns false where there is none.
func (r *loadState) readChunk(ctx context.Context, number uint64) bool {
	key := chunkKey(number)
	p, found, err := r.get(ctx, key)
	switch {
	case err != nil:
		r.broken = true
	case !found:
		return false
	case p.number < r.index:
		// It left the window long ago.
		r.useless = append(r.useless, key)
		return false
	case chunkKey(p.number) != key:
		r.broken = true
		r.problem(fmt.Errorf("read %s: %w", key, errForeign))
	default:
		r.chunks = append(r.chunks, p)
	}
	r.found = append(r.found, key)
	return true
}

func (r *loadState) readSegments(ctx context.Context) {
	for slot := range segmentCount {
		if r.hopeless(ctx) {
			return
		}
		p, found, err := r.get(ctx, segmentKey(slot))
		switch {
		case err != nil:
			r.useless = append(r.useless, segmentKey(slot))
		case found:
			r.segments = append(r.segments, p)
		}
	}
	slices.SortFunc(r.segments, byNumber)
}

func byNumber(a, b storedSegment) int { return cmp.Compare(a.number, b.number) }

// hopeless is true where going on would only take time.
func (r *loadState) hopeless(ctx context.Context) bool {
	return r.failures >= maxReadFailures || ctx.Err() != nil
}

func (r *loadState) get(ctx context.Context, key string) (p storedSegment, found bool, err error) {
	value, err := r.store.Get(ctx, key)
	switch {
	case err != nil:
		r.failures++
	case value == nil:
		r.failures = 0
		return storedSegment{}, false, nil
	default:
		r.failures = 0
		p, err = decode(value)
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w", key, err)
		r.problem(err)
		return storedSegment{}, false, err
	}
	return p, true, nil
}

func (r *loadState) problem(err error) {
	r.problems++
	if r.example == nil {
		r.example = err
	}
}
