package graph

import (
	"errors"
	"time"
)

// longestRetryAfter bounds what is obeyed, so that an absurd header does not end the receiver's work for good.
const longestRetryAfter = time.Hour

// RetryAfter returns how long Graph or Entra ID asked to stay away, at most an hour; 0 where they did not.
func RetryAfter(err error) time.Duration {
	var asked time.Duration
	if e, ok := errors.AsType[*Error](err); ok {
		asked = e.RetryAfter
	}
	if e, ok := errors.AsType[*TokenError](err); ok {
		asked = max(asked, e.RetryAfter)
	}
	return min(asked, longestRetryAfter)
}
