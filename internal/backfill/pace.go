package backfill

import "time"

// Progress is how far the present reading has come; zero where there is none.
type Progress struct {
	// Done are users whose history was read, Late those left for later since it can't be, and Left those still to come.
	Done, Late, Left int
	// TimeLeft is how long the rest takes, judging by what was read until now; 0 while nothing was.
	TimeLeft time.Duration
}

// Progress is safe for concurrent use.
func (f *Backfiller) Progress() Progress {
	p := f.estimate.Load()
	if p == nil {
		return Progress{}
	}
	return p.progress(time.Now())
}

// estimate tells the progress of a reading.
type estimate struct {
	queue *queue
	began time.Time
	// before is how many users were done when this process began.
	before int
}

func newEstimate(q *queue) *estimate {
	before, _, _ := q.state()
	return &estimate{queue: q, began: time.Now(), before: before}
}

func (p *estimate) progress(now time.Time) Progress {
	done, late, total := p.queue.state()
	left := total - done - late
	return Progress{Done: done, Late: late, Left: left, TimeLeft: timeLeft(now.Sub(p.began), done-p.before, left)}
}

// timeLeft estimates how long a number of users still takes, from how long others took.
func timeLeft(took time.Duration, done, left int) time.Duration {
	if done <= 0 {
		return 0
	}
	return time.Duration(float64(took) / float64(done) * float64(left)).Round(time.Second)
}
