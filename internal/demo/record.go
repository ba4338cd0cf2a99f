// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// concurrency is how many queries are sent at once: what one of them leaves of two processors the next one uses.
const concurrency = 4

// logDatabase is VictoriaLogs.
type logDatabase struct{ address string }

// result is one result of a query, with the labels of its series.
type result struct {
	labels map[string]string
	value  float64
}

// stats evaluates a query that ends with stats: https://docs.victoriametrics.com/victorialogs/querying/#querying-log-stats
func (l logDatabase) stats(ctx context.Context, query string, at time.Time) (results []result, err error) {
	form := url.Values{"query": {query}, "time": {at.UTC().Format(time.RFC3339Nano)}}
	target := "http://" + l.address + "/select/logsql/stats_query"
	body, err := post(ctx, target, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  [2]any            `json:"value"` // time and number
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	for _, one := range answer.Data.Result {
		value, err := strconv.ParseFloat(fmt.Sprint(one.Value[1]), 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
		if !math.IsNaN(value) { // which stands for no value
			results = append(results, result{one.Metric, value})
		}
	}
	return results, nil
}

// count returns the single result of a query.
func (l logDatabase) count(ctx context.Context, query string) (int, error) {
	results, err := l.stats(ctx, query, time.Now())
	if err != nil || len(results) == 0 {
		return 0, err
	}
	return int(results[0].value), nil
}

// recorder writes what recording rules result in to the database of metrics, as vmalert does from now on. It is needed for the time
// before, since vmalert can't evaluate a rule with a time filter of its own for the past, and all of these have one:
// https://docs.victoriametrics.com/victorialogs/vmalert/#time-filter
type recorder struct {
	logs    logDatabase
	metrics string // address
}

// series are samples of a metric, in the form of https://docs.victoriametrics.com/victoriametrics/#json-line-format
type series struct {
	Metric     map[string]string `json:"metric"`
	Values     []float64         `json:"values"`
	Timestamps []int64           `json:"timestamps"` // in milliseconds since 1970
}

// record evaluates rules, and returns once their results can be queried.
func (r *recorder) record(ctx context.Context, evaluations []evaluation) error {
	var mu sync.Mutex // guards all
	all := map[string]*series{}
	work, ctx2 := errgroup.WithContext(ctx)
	work.SetLimit(concurrency)
	for _, e := range evaluations {
		work.Go(func() error {
			results, err := r.logs.stats(ctx2, e.rule.query, e.at)
			if err != nil {
				return fmt.Errorf("the rule of %s: %w", e.rule.metric, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, one := range results {
				add(all, e, one)
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	return r.write(ctx, slices.Collect(maps.Values(all)))
}

// write writes series, and returns once they can be queried.
func (r *recorder) write(ctx context.Context, all []*series) error {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for _, one := range all {
		if err := encoder.Encode(one); err != nil {
			return err
		}
	}
	if _, err := post(ctx, "http://"+r.metrics+"/api/v1/import", "application/json", &lines); err != nil {
		return err
	}
	// https://docs.victoriametrics.com/victoriametrics/#troubleshooting
	_, err := post(ctx, "http://"+r.metrics+"/internal/force_flush", "", nil)
	return err
}

// licensedBefore returns the number of licensed users in the time of the history, once a day. The receiver measures it from its start on,
// and the invented company has had the same licenses all the time; without it the rate of active users would have no past.
func licensedBefore(now time.Time) *series {
	one := &series{Metric: map[string]string{"__name__": "microsoft_copilot_user_licensed"}}
	for at := now.Add(-history); at.Before(now); at = at.Add(day) {
		one.Values, one.Timestamps = append(one.Values, licensed), append(one.Timestamps, at.UnixMilli())
	}
	return one
}

// add adds a result to the series that vmalert would write it to.
func add(all map[string]*series, e evaluation, one result) {
	metric := map[string]string{}
	maps.Copy(metric, one.labels)
	metric["stats_result"] = metric["__name__"] // the name of the column is kept as a label
	maps.Copy(metric, e.rule.labels)
	metric["__name__"] = e.rule.metric
	maps.DeleteFunc(metric, func(_, value string) bool { return value == "" })
	key := fmt.Sprint(metric) // in order
	if all[key] == nil {
		all[key] = &series{Metric: metric}
	}
	all[key].Values = append(all[key].Values, one.value)
	all[key].Timestamps = append(all[key].Timestamps, e.at.UnixMilli())
}

// post sends a request that must succeed, and returns the answer.
func post(ctx context.Context, target, contentType string, body io.Reader) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", contentType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s: %s", target, response.Status, answer)
	}
	return answer, err
}
