// SPDX-License-Identifier: Apache-2.0

package interaction_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestReceived_HappenedAtUsesBestKnownTime(t *testing.T) {
	t.Parallel()
	// 1764601200123 is 15:00:00.123 of this day, 1764601290000 is 15:01:30.
	clock := func(hour, minute, second, ms int) time.Time {
		return time.Date(2025, time.December, 1, hour, minute, second, ms*1_000_000, time.UTC)
	}
	created := clock(14, 59, 59, 0)
	tests := map[string]struct {
		id, etag string
		created  time.Time
		change   interaction.Change
		want     time.Time // zero: unknown
	}{
		"a creation happened at createdDateTime": {
			id: "1764601200123", etag: "1764601290000", created: created, change: interaction.Created, want: created,
		},
		"createdDateTime is returned in UTC": {
			created: created.In(time.FixedZone("", 3600)), change: interaction.Created, want: created,
		},
		"without createdDateTime the id is used": {
			id: "1764601200123", change: interaction.Created, want: clock(15, 0, 0, 123),
		},
		"an update happened at the time in its etag": {
			id: "1764601200123", etag: "1764601290000", created: created, change: interaction.Updated, want: clock(15, 1, 30, 0),
		},
		"an update without etag happened at createdDateTime": {
			id: "1764601200123", created: created, change: interaction.Updated, want: created,
		},
		"an update with an etag of another kind happened at createdDateTime": {
			etag: `W/"1764601290000"`, created: created, change: interaction.Updated, want: created,
		},
		"a deletion happened at createdDateTime": {
			id: "1764601200123", etag: "1764601290000", created: created, change: interaction.Deleted, want: created,
		},
		"a deletion without content happened at the time in its id": {
			id: "1764601200123", change: interaction.Deleted, want: clock(15, 0, 0, 123),
		},
		"an id that is not a number is not a time":            {id: "r_7", change: interaction.Created},
		"an id with a sign is not a time":                     {id: "+1764601200123", change: interaction.Created},
		"an id with space is not a time":                      {id: " 1764601200123", change: interaction.Created},
		"an empty id is not a time":                           {change: interaction.Created},
		"an id in seconds is not a time":                      {id: "1764601200", change: interaction.Created},
		"an id in microseconds is not a time":                 {id: "1764601200123000", change: interaction.Created},
		"an id that is out of range of 64 bits is not a time": {id: "99999999999999999999", change: interaction.Created},
		"an id from before 2015 is not a time":                {id: "1420070399999", change: interaction.Created},
		"an id from 2100 is not a time":                       {id: "4102444800000", change: interaction.Created},
		"the first millisecond of 2015 is a time": {
			id: "1420070400000", change: interaction.Created, want: time.Date(2015, time.January, 1, 0, 0, 0, 0, time.UTC),
		},
		"the last millisecond of 2099 is a time": {
			id: "4102444799999", change: interaction.Created, want: time.Date(2099, time.December, 31, 23, 59, 59, 999_000_000, time.UTC),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := interaction.Received{Change: tt.change}
			r.ID, r.ETag, r.CreatedDateTime = tt.id, tt.etag, tt.created
			got, ok := r.HappenedAt()
			assert.Equal(t, !tt.want.IsZero(), ok)
			assert.Equal(t, tt.want, got)
		})
	}
}
