package backfill

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// Settings is what a Filler needs. TenantID, Graph and Intake are required.
type Settings struct {
	// TenantID is the tenant that is read, in lower case.
	TenantID string
	// MaxGap is how far back gaps are filled: 168 h unless set.
	MaxGap time.Duration
	// Disabled keeps gaps from being read: they are reported and kept, until they are older than MaxGap.
	Disabled bool
	// PollInterval above 0 reads the history this often.
	PollInterval time.Duration
	// Users are those whose history is read. Empty: the licensed users of the directory and those seen.
	Users []string
	// RequestsPerSecond bounds the requests to Graph: 25 unless set, and Graph takes 30:
	// https://learn.microsoft.com/graph/throttling-limits
	RequestsPerSecond float64
	// Concurrency is how many users are read at once: 4 unless set. Each holds one page of up to 100 interactions.
	Concurrency int

	// Graph is read from.
	Graph Graph
	// Intake takes what was read.
	Intake Intake
	// Permanent tells of an error of Intake that the same interactions would be refused again, so that there is no point
	// in handing them in again. Unless set it is consumererror.IsPermanent, which does not look into joined errors.
	Permanent func(error) bool
	// Store keeps gaps and progress over restarts. Nil keeps nothing.
	Store Store
	// Logger gets one line for each event. Nil is allowed.
	Logger *zap.Logger
	// Telemetry counts. Nil is allowed.
	Telemetry Telemetry
	// Status is called when the health changes, and only then: with a *Failure while no history can be read, or with nil
	// when all is well again. It must not block. Nil is allowed.
	Status func(error)
}

// Graph is the part of Microsoft Graph that is read. *graph.Client has it.
type Graph interface {
	// History reads a page of what happened to a user between two times, both excluded. Next is that of the page before,
	// empty for the first.
	History(ctx context.Context, user string, from, to time.Time, next string) (graph.HistoryPage, error)
	// LicensedUsers reads a page of the users that have a Copilot license.
	LicensedUsers(ctx context.Context, next string) (graph.UserPage, error)
}

// Intake takes interactions in.
type Intake interface {
	// Deliver returns nil once all interactions were taken, by a pipeline or as duplicates, and how many were new.
	Deliver(ctx context.Context, received []interaction.Received) (delivered int, _ error)
}

// Telemetry counts what is done about gaps. It is called by many goroutines at once and must not block.
type Telemetry interface {
	// GapOpened is one gap more.
	GapOpened(ctx context.Context, reason Reason)
	// GapClosed is one gap less: all of it was read for all users, twice where need be, or given up.
	GapClosed(ctx context.Context, reason Reason)
	// GapLost is time that is not read at all, or not for some users, since it is further back than Settings.MaxGap.
	GapLost(ctx context.Context, reason Reason, lost time.Duration)
	// HistoryInteractions are interactions that were read and handed to the intake.
	HistoryInteractions(ctx context.Context, found int)
}

type noopTelemetry struct{}

func (noopTelemetry) GapOpened(context.Context, Reason)              {}
func (noopTelemetry) GapClosed(context.Context, Reason)              {}
func (noopTelemetry) GapLost(context.Context, Reason, time.Duration) {}
func (noopTelemetry) HistoryInteractions(context.Context, int)       {}

type noopStore struct{}

func (noopStore) Get(context.Context, string) ([]byte, error) { return nil, nil }
func (noopStore) Set(context.Context, string, []byte) error   { return nil }
func (noopStore) Delete(context.Context, string) error        { return nil }

func (s Settings) newGapStore() gapStore { return gapStore{maxGap: s.MaxGap, bounded: s.Disabled} }

func (s Settings) withDefaults() Settings {
	if s.MaxGap <= 0 {
		s.MaxGap = 168 * time.Hour
	}
	if s.RequestsPerSecond <= 0 {
		s.RequestsPerSecond = 25
	}
	if s.Concurrency <= 0 {
		s.Concurrency = 4
	}
	if s.Permanent == nil {
		s.Permanent = consumererror.IsPermanent
	}
	if s.Store == nil {
		s.Store = noopStore{}
	}
	if s.Logger == nil {
		s.Logger = zap.NewNop()
	}
	if s.Telemetry == nil {
		s.Telemetry = noopTelemetry{}
	}
	if s.Status == nil {
		s.Status = func(error) {}
	}
	return s
}
