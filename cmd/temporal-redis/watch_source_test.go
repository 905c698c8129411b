package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.temporal.io/api/serviceerror"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/notifier"
)

// fickle is a source that answers, or not.
type fickle struct{ failure atomic.Pointer[error] }

func (f *fickle) fail(err error) { f.failure.Store(&err) }

func (f *fickle) States(context.Context, string) ([]notifier.Event, error) {
	if err := f.failure.Load(); err != nil {
		return nil, *err
	}
	return nil, nil
}

func TestAsked_remembers_whether_it_is_answered(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	ended, end := context.WithCancel(t.Context())
	end()
	late, stop := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer stop()
	for name, test := range map[string]struct {
		ctx    context.Context
		before error
		answer error
		want   error
	}{
		"an answer":                         {t.Context(), nil, nil, nil},
		"no answer":                         {t.Context(), nil, refused, refused},
		"none in time":                      {late, nil, context.DeadlineExceeded, context.DeadlineExceeded},
		"an answer again":                   {t.Context(), refused, nil, nil},
		"nobody waits for it":               {ended, nil, context.Canceled, nil},
		"the id is wrong for Temporal":      {t.Context(), nil, serviceerror.NewInvalidArgument("too long"), nil},
		"the same, while it is not there":   {t.Context(), refused, serviceerror.NewInvalidArgument("too long"), refused},
		"nobody waits, while it was away":   {ended, refused, context.Canceled, refused},
		"it was away for one more reason":   {t.Context(), refused, context.DeadlineExceeded, context.DeadlineExceeded},
		"it refuses us, which is no answer": {t.Context(), nil, serviceerror.NewPermissionDenied("no", ""), serviceerror.NewPermissionDenied("no", "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := new(fickle)
			source.fail(test.answer)
			a := &asked{source: source, failed: test.before}
			if _, err := a.States(test.ctx, "w"); err != test.answer { //nolint:errorlint // the very same
				t.Errorf("it answers %v", err)
			}
			if got := a.failure(); (got == nil) != (test.want == nil) || (got != nil && got.Error() != test.want.Error()) {
				t.Errorf("it remembers %v; want %v", got, test.want)
			}
		})
	}
	if (*asked)(nil).failure() != nil {
		t.Error("nobody was asked, and there was no answer")
	}
}

// tellTale is told what watch says of connections.
type tellTale struct{ news chan string }

func (t *tellTale) Draw(...notifier.Event) error { return nil }
func (t *tellTale) Connection(bool) error        { return nil }
func (t *tellTale) Source(failure error) error {
	text := "there"
	if failure != nil {
		text = failure.Error()
	}
	select {
	case t.news <- text:
	default:
	}
	return nil
}

func TestWatch_tells_whether_Temporal_answers(t *testing.T) {
	t.Parallel()
	p := newPress(t)
	p.tell("w", "r", runs)
	client := redis.NewClient(&redis.Options{Addr: p.server.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	hub, err := notifier.NewSubscriber(client, notifier.SubscriberOptions{
		Namespace: keys.NamespaceFor("default"), StatusEvery: 10 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	source := new(fickle)
	source.fail(errors.New("it is not there"))
	w := &watching{id: "w", source: &asked{source: source}}
	sub, err := hub.Subscribe(t.Context(), "w", notifier.WithStatusSource(w.source))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	show, ended := &tellTale{make(chan string)}, make(chan error, 1)
	go func() { ended <- w.follow(ctx, hub, sub.Events(), sub.Err, show, io.Discard) }()
	await := func(want string) {
		t.Helper()
		for giveUp := time.After(30 * time.Second); ; {
			select {
			case text := <-show.news:
				if text == want {
					return
				}
			case <-giveUp:
				t.Fatalf("it never says %q", want)
			}
		}
	}
	await("it is not there")
	source.fail(nil)
	await("there")
	cancel()
	sub.Close()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("it ends with %v", err)
	}
}

func TestWatch_tells_of_connections_beside_its_JSON(t *testing.T) {
	t.Parallel()
	var out, errs strings.Builder
	show := (&watching{asJSON: true}).show(streams{&out, &errs})
	for _, failure := range []error{nil, errors.New("refused"), errors.New("refused"), nil} {
		if err := errors.Join(show.Connection(failure == nil), show.Source(failure)); err != nil {
			t.Fatal(err)
		}
	}
	const want = "the connection to Redis is lost; trying again\nTemporal does not answer; trying again (refused)\n" +
		"Redis is back\nTemporal answers again\n"
	if errs.String() != want || out.Len() > 0 {
		t.Errorf("it writes %q, and to standard error %q; want %q", out.String(), errs.String(), want)
	}
}
