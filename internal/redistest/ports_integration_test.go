//go:build integration && unix

package redistest

import (
	"errors"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/internal/loopback"
)

func TestServerDoesNotMistakeAnotherForItself(t *testing.T) {
	t.Parallel()
	first := Start(t)
	second := Start(t)
	second.Kill()

	t.Run("a foreign server on its port is not it", func(t *testing.T) {
		stranger := &Server{settings: first.settings, port: first.port, secret: first.secret, process: first.process}
		client := first.ControlClient(t)
		if err := stranger.identify(t.Context(), client); err != nil {
			t.Fatalf("the server itself: %v", err)
		}
		second.MustRestart(t)
		stranger.process = second.process
		if err := stranger.identify(t.Context(), client); err == nil {
			t.Error("another process was taken for it")
		}
		second.Kill()
	})
	t.Run("a taken port is told as such", func(t *testing.T) {
		second.port = first.port
		if err := second.writeConfig(); err != nil {
			t.Fatal(err)
		}
		if err := second.launch(t.Context()); !errors.Is(err, errPortTaken) {
			t.Errorf("launch on a taken port: %v", err)
		}
	})
}

func TestRestartWaitsForItsPort(t *testing.T) {
	t.Parallel()
	server := Start(t)
	server.Kill()
	thief := &Server{settings: settings{}, program: server.program, dir: t.TempDir(), port: server.port, secret: "x"}
	if err := thief.writeConfig(); err != nil {
		t.Fatal(err)
	}
	if err := thief.launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(150*time.Millisecond, thief.Kill)
	t.Cleanup(func() {
		timer.Stop()
		thief.Kill()
	})
	server.MustRestart(t)
	if got := loopback.Address(server.port); got != server.Addr() {
		t.Errorf("restarted on %s, want %s", server.Addr(), got)
	}
}
