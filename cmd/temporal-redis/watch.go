package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/compozy/temporal-redis/internal/screen"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/worker"
)

// watching is what the watch command was told.
type watching struct {
	connection
	id       string
	after    int64
	all      bool
	asJSON   bool
	temporal string
	source   *asked // nil: none
	channels string // their prefix
	sharded  bool
}

func watch(ctx context.Context, args []string, s streams, env lookup) (err error) {
	f := flag.NewFlagSet("temporal-redis watch", flag.ContinueOnError)
	var w watching
	w.flags(f)
	f.BoolVar(&w.all, "all", false, "all workflows, until interrupted")
	f.BoolVar(&w.asJSON, "json", false, "one JSON object per event instead of a table or lines")
	f.Int64Var(&w.after, "after", 0, "begin after the event with this id (--json shows them) instead of with the current state")
	f.StringVar(&w.channels, "channel-prefix", "", "prefix of the channels, if the workers set one (ChannelPrefix)")
	f.BoolVar(&w.sharded, "sharded", false, "the workers publish by sharded pub/sub (ShardedEvents)")
	f.StringVar(&w.temporal, "temporal", "", "host:port of the Temporal server to ask when events stop and while Redis is away (default: none)")
	f.Usage = func() {
		_, _ = fmt.Fprint(f.Output(), "usage: temporal-redis watch ID [flags], or temporal-redis watch --all [flags]\n\n"+
			"It ends with the workflow: 0 SUCCESS, 3 FAILED, 4 TIMED_OUT, 5 CANCELED; 1 if it cannot tell.\n\n")
		f.PrintDefaults()
	}
	ids, err := parseAll(f, args, s)
	switch {
	case err != nil:
		return err
	case w.all && (len(ids) > 0 || w.after != 0):
		return misused(f, s, "--all takes neither a workflow id nor --after")
	case !w.all && len(ids) != 1:
		return misused(f, s, "watch takes one workflow id, or --all; got %d", len(ids))
	case w.after < 0:
		return misused(f, s, "--after is %d; use the id of an event, 0 or more", w.after)
	case !w.all:
		w.id = ids[0]
	}
	// The screen shows what happens to the connection.
	plugin, err := w.openWith(env, slog.New(slog.DiscardHandler), func(o *worker.Options) {
		o.ChannelPrefix, o.ShardedEvents = w.channels, w.sharded
	})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.timeout)
		defer cancel()
		err = errors.Join(err, plugin.Close(closing))
	}()
	hub, err := plugin.Subscriber(ctx)
	if err != nil {
		return err
	}
	listening, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	patience := time.AfterFunc(w.timeout, func() {
		stop(fmt.Errorf("%w: it did not answer within %s (--timeout)", notifier.ErrUnavailable, w.timeout))
	})
	events, ended, err := w.subscribe(listening, hub)
	if patience.Stop(); err != nil {
		if !w.all && w.after == 0 && w.temporal == "" && errors.Is(err, notifier.ErrUnavailable) {
			err = fmt.Errorf("%w; --temporal HOST:PORT has the Temporal server asked while Redis is away", err)
		}
		return err
	}
	return w.follow(ctx, hub, events, ended, w.show(s), s.err)
}

// subscribe begins to listen; ended tells why there are no more events.
func (w *watching) subscribe(ctx context.Context, hub *notifier.Hub) (events <-chan notifier.Event, ended func() error, err error) {
	var opts []notifier.SubscribeOption
	if w.after > 0 {
		opts = append(opts, notifier.After("", w.after))
	}
	if w.temporal != "" {
		if w.source, err = askTemporal(ctx, w.temporal, w.connection.temporal); err != nil {
			return nil, nil, err
		}
		opts = append(opts, notifier.WithStatusSource(w.source))
	}
	for giveUp := time.Now().Add(w.timeout); ; {
		if w.all {
			var all *notifier.All
			if all, err = hub.SubscribeAll(ctx, opts...); err == nil {
				return all.Events(), all.Err, nil
			}
		} else {
			var one *notifier.Subscription
			if one, err = hub.Subscribe(ctx, w.id, opts...); err == nil {
				return one.Events(), one.Err, nil
			}
		}
		if cause := context.Cause(ctx); cause != nil && errors.Is(cause, notifier.ErrUnavailable) {
			return nil, nil, cause
		}
		if !errors.Is(err, notifier.ErrUnavailable) || time.Now().After(giveUp) || ctx.Err() != nil {
			return nil, nil, err
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
}

// shower puts on the screen what comes.
type shower interface {
	Draw(events ...notifier.Event) error
	Connection(connected bool) error
	Source(failure error) error
}

func (w *watching) show(s streams) shower {
	if w.asJSON {
		return &jsonLines{streams: s, encoder: json.NewEncoder(plainJSON{s.out})}
	}
	if w.all {
		return screen.NewMany(s.out)
	}
	return screen.New(s.out)
}

// jsonLines are events, one in a line; what else there is to say goes to standard
// error.
type jsonLines struct {
	streams
	encoder *json.Encoder
	away    screen.Away
}

func (j *jsonLines) Draw(events ...notifier.Event) error {
	for _, ev := range events {
		if err := j.encoder.Encode(ev); err != nil {
			return err
		}
	}
	return nil
}

func (j *jsonLines) Connection(connected bool) error { return j.tell(j.away.Redis(connected)) }

func (j *jsonLines) Source(failure error) error { return j.tell(j.away.Temporal(failure)) }

func (j *jsonLines) tell(news string) error {
	if news == "" {
		return nil
	}
	_, err := fmt.Fprintln(j.err, news)
	return err
}

const (
	// lookEvery is how often the connection is looked at.
	lookEvery = 250 * time.Millisecond
	// hintAfter is how long nothing comes before that is said.
	hintAfter = 3 * time.Second
	// settleFor is how long to wait for more after an event that ends the workflow: it
	// may be of an earlier run, and the newest comes behind it.
	settleFor = 200 * time.Millisecond
)

// follow shows events until the workflow has ended.
func (w *watching) follow(ctx context.Context, hub *notifier.Hub, events <-chan notifier.Event, ended func() error, show shower, hints io.Writer) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	settled := time.NewTimer(0)
	settled.Stop()
	defer settled.Stop()
	silence := time.NewTimer(hintAfter)
	defer silence.Stop()
	end, err := w.before(ctx, hub)
	if err != nil {
		return err
	}
	if end.over() {
		settled.Reset(settleFor)
	}
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				return w.over(ctx, ended())
			}
			silence.Stop()
			burst := []notifier.Event{ev}
			for range len(events) { // what is there already: one drawing shows all
				burst = append(burst, <-events)
			}
			if err := show.Draw(burst...); err != nil {
				return err
			}
			if !w.all && end.take(burst) {
				if settled.Stop(); end.over() {
					settled.Reset(settleFor)
				}
			}
		case <-silence.C:
			if !w.all && w.after == 0 {
				_, _ = fmt.Fprintf(hints, "there are no events of %q yet; waiting for them (another id, --temporal-namespace or --namespace? --temporal asks the server)\n", w.id)
			}
		case <-settled.C:
			return endOf(end.last)
		case <-look.C:
			if err := errors.Join(show.Connection(hub.Connected()), show.Source(w.source.failure())); err != nil {
				return err
			}
		}
	}
}

// ending is what is known of how the workflow goes.
type ending struct {
	last    notifier.Event  // of the newest run itself
	another bool            // a run goes on of which that is not
	before  map[string]bool // runs before the newest: tasks that they left behind are no runs that go on
}

// over tells whether the workflow has ended.
func (e *ending) over() bool { return e.last.EndsWorkflow() && !e.another }

// take tells whether events change it.
func (e *ending) take(events []notifier.Event) (changed bool) {
	for _, ev := range events {
		if ev.Kind != notifier.KindStatus || ev.RunID == "" {
			continue
		}
		switch {
		case ev.OfWorkflow() && (e.last.RunID == "" || (ev.RunID == e.last.RunID && ev.Supersedes(e.last)) || (ev.RunID != e.last.RunID && !ev.Time.Before(e.last.Time))):
			if e.last.RunID != "" && e.last.RunID != ev.RunID {
				e.before[e.last.RunID] = true
			}
			e.last, e.another, changed = ev, false, true
			delete(e.before, ev.RunID)
		case ev.OfWorkflow() && ev.RunID != e.last.RunID && ev.ID != 0 && ev.ID < e.last.ID: // clocks differ, the log does not
			e.before[ev.RunID] = true
		case ev.RunID != e.last.RunID && ev.Time.After(e.last.Time) && !e.another && !e.before[ev.RunID]: // a task of a run that was reset
			e.another, changed = true, true
		}
	}
	return changed
}

// before is what the log says up to the event to begin after.
func (w *watching) before(ctx context.Context, hub *notifier.Hub) (e ending, err error) {
	e.before = make(map[string]bool)
	if w.after == 0 {
		return e, nil
	}
	events, err := hub.Read(ctx, w.id, 0, 0)
	if errors.Is(err, notifier.ErrUnavailable) {
		return e, nil // the log tells when Redis is back
	}
	for i, ev := range events {
		if ev.ID > w.after {
			events = events[:i]
			break
		}
	}
	e.take(events)
	return e, err
}

// over is why there are no more events.
func (w *watching) over(ctx context.Context, err error) error {
	switch interrupted := ctx.Err() != nil; {
	case interrupted && w.all:
		return nil // as it was asked
	case interrupted:
		return errors.New("interrupted before the workflow ended")
	}
	return err
}

// endedError says how a workflow ended that did not end well.
type endedError struct{ status notifier.Status }

func (e *endedError) Error() string { return "the workflow ended as " + string(e.status) }

func endOf(last notifier.Event) error {
	if last.Status == notifier.StatusSuccess {
		return nil
	}
	return &endedError{last.Status}
}

// exitOf is the exit code for how a workflow ended, 0 for other errors.
func exitOf(err error) int {
	ended, ok := errors.AsType[*endedError](err)
	if !ok {
		return 0
	}
	switch ended.status {
	case notifier.StatusTimedOut:
		return exitTimedOut
	case notifier.StatusCanceled:
		return exitCanceled
	}
	return exitFAILED
}
