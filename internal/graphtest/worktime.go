// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"math/rand/v2"
	"strings"
	"time"
)

// workplace is what differs between the countries of a company.
type workplace struct {
	// offset is that of its local time from UTC in hours, the same all year, so that it needs no database of time zones.
	offset int
	// holidays are public holidays with a fixed date, as MM-DD.
	holidays string
	// language is the one that people write in besides English, and locale that of their apps.
	language, locale string
}

var workplaces = map[string]workplace{
	"Austria":        {1, "01-01 01-06 05-01 08-15 10-26 11-01 12-08 12-25 12-26", "de", "de-at"},
	"Germany":        {1, "01-01 05-01 10-03 12-25 12-26", "de", "de-de"},
	"France":         {1, "01-01 05-01 05-08 07-14 08-15 11-01 11-11 12-25", "fr", "fr-fr"},
	"United Kingdom": {0, "01-01 12-25 12-26", "en", "en-gb"},
	"United States":  {-6, "01-01 06-19 07-04 11-11 12-25", "en", "en-us"},
	"Japan":          {9, "01-01 02-11 02-23 04-29 05-03 05-04 05-05 08-11 11-03 11-23", "ja", "ja-jp"},
}

// elsewhere is the workplace of people without a country.
var elsewhere = workplace{1, "01-01 12-25", "en", "en-us"}

func (w workplace) zone() *time.Location {
	return time.FixedZone("", w.offset*int(time.Hour/time.Second))
}

// hourWeights say how many of a day's conversations begin in each local hour: few early and late, and fewer at noon.
var hourWeights = [24]float64{7: 1, 8: 5, 9: 10, 10: 11, 11: 9, 12: 4, 13: 7, 14: 10, 15: 9, 16: 7, 17: 4, 18: 1, 19: 1, 20: 0.5}

// freeDay is how likely somebody works with Copilot on a weekend or public holiday, compared with a working day.
const freeDay = 0.05

// dayWeight returns how likely somebody works on a day compared with a working day.
func (w workplace) dayWeight(local time.Time) float64 {
	if weekday := local.Weekday(); weekday == time.Saturday || weekday == time.Sunday || strings.Contains(w.holidays, local.Format("01-02")) {
		return freeDay
	}
	return 1
}

// timeOfDay returns a random time at which a conversation begins, since midnight.
func timeOfDay(rng *rand.Rand) time.Duration {
	hour := weighted(rng, hourWeights[:])
	return time.Duration(hour)*time.Hour + time.Duration(rng.Int64N(int64(time.Hour/time.Millisecond)))*time.Millisecond
}

// weighted returns a random index, each with a probability in proportion to its weight. One must be above 0.
func weighted(rng *rand.Rand, weights []float64) int {
	total := 0.0
	for _, weight := range weights {
		total += weight
	}
	last := 0
	for rest, i := rng.Float64()*total, 0; i < len(weights); i++ {
		if weights[i] <= 0 {
			continue
		}
		if last = i; rest < weights[i] {
			break
		}
		rest -= weights[i]
	}
	return last
}

// appShares says how often the people of a department use each app; without a department, it is the entry of "".
var appShares = map[string]map[string]float64{
	"":                   {"BizChat": 4, "Word": 2, "Teams": 2, "Outlook": 2, "Excel": 1, "WebChat": 1},
	"Engineering":        {"Teams": 5, "BizChat": 5, "Word": 3, "Loop": 1, "OneNote": 1, "Excel": 1, "CoworkChat": 1},
	"Sales":              {"Outlook": 6, "PowerPoint": 4, "BizChat": 3, "Teams": 3, "Word": 1, "Excel": 1, "CoworkChat": 0.5},
	"Operations":         {"Teams": 4, "Excel": 3, "Outlook": 2, "BizChat": 2, "Planner": 1, "Forms": 0.5},
	"Customer Service":   {"Outlook": 4, "Teams": 4, "BizChat": 3, "WebChat": 1.5, "SharePoint": 1},
	"Finance":            {"Excel": 8, "Outlook": 2, "BizChat": 2, "Word": 1, "PowerPoint": 1},
	"Human Resources":    {"Word": 4, "Outlook": 3, "BizChat": 3, "Teams": 2, "Forms": 1},
	"Marketing":          {"PowerPoint": 4, "Word": 3, "BizChat": 3, "Designer": 2, "Loop": 1, "Whiteboard": 0.5, "VivaEngage": 0.5},
	"Legal & Compliance": {"Word": 6, "BizChat": 3, "Outlook": 3, "SharePoint": 1, "OfficeCopilotNotebook": 0.5},
}

// rareApp is how often somebody uses an app that is none of their department, for each app and compared with appShares.
const rareApp = 0.015

// appsWithAgents are the apps in which people call agents.
var appsWithAgents = []string{"BizChat", "Teams", "WebChat", "M365App"}

// appWeights returns how often somebody of the department uses each of apps. People differ: each has apps that they like.
func appWeights(department string, rng *rand.Rand) []float64 {
	shares, known := appShares[department]
	if !known {
		shares = appShares[""]
	}
	weights := make([]float64, len(apps))
	for i, a := range apps {
		weights[i] = max(shares[a.name()], rareApp*float64(a.share)) * (0.3 + 1.7*rng.Float64())
	}
	return weights
}
