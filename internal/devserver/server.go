//go:build unix

package devserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/compozy/temporal-redis/internal/loopback"
	"github.com/compozy/temporal-redis/internal/procs"
)

const (
	startAttempts = 5
	stopGrace     = 5 * time.Second
	logName       = "temporal.log"
)

// Server is a running development server. Its methods are safe for concurrent
// use.
type Server struct {
	process *procs.Process
	output  *os.File
	dir     string
	ownDir  bool
	port    int
	stop    sync.Once
}

// Start runs a server and returns when it and its namespaces serve. ctx bounds
// the start only; the caller ends the server by Stop.
func Start(ctx context.Context, options Options) (*Server, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	options, err := options.withDefaults(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, options.StartTimeout)
	defer cancel()
	// The server takes further free ports by itself, and somebody may be faster. And it
	// has its own bound for a start, which a busy machine may not hold.
	for range startAttempts {
		var server *Server
		if server, err = launch(ctx, options); err == nil || !errors.Is(err, errPortTaken) && !errors.Is(err, errTooSlow) {
			return server, err
		}
	}
	return nil, err
}

func launch(ctx context.Context, options Options) (*Server, error) {
	s := &Server{dir: options.Dir}
	var err error
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "devserver-"); err != nil {
			return nil, fmt.Errorf("devserver: make directory: %w", err)
		}
		s.ownDir = true
	}
	if s.port, err = loopback.Port(); err == nil {
		s.output, err = os.Create(s.LogFile())
	}
	if err == nil {
		s.process, err = procs.Start(s.command(options))
	}
	if err == nil {
		err = s.waitServing(ctx, append([]string{"default"}, options.Namespaces...))
	}
	if err == nil && options.Nice != 0 {
		if err = s.process.StandBack(options.Nice); errors.Is(err, fs.ErrPermission) {
			err = nil // this process stands back further
		}
	}
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("devserver: start: %w", err)
	}
	return s, nil
}

func (s *Server) command(options Options) procs.Command {
	args := []string{
		"server", "start-dev", "--headless",
		"--ip", "127.0.0.1", "--port", strconv.Itoa(s.port),
		"--log-level", options.LogLevel, "--log-format", "json",
	}
	for _, namespace := range options.Namespaces {
		args = append(args, "--namespace", namespace)
	}
	settings := maps.Clone(quickSettings)
	maps.Copy(settings, options.DynamicConfig)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "--dynamic-config-value", name+"="+settings[name])
	}
	command := procs.Command{
		Path: options.Path, Args: append(args, options.ExtraArgs...), Dir: s.dir,
		Env: environ(s.dir), Output: s.output,
	}
	if s.ownDir {
		command.Scratch = s.dir
	}
	return command
}

var (
	errPortTaken = errors.New("port taken")
	errTooSlow   = errors.New("its services did not start in the time that it gives them")
)

// waitServing returns when all services have started and the frontend answers for
// every namespace. The frontend alone says little: it answers before the others have
// started, and should one of them not do so in time, the server ends, whatever runs.
func (s *Server) waitServing(ctx context.Context, namespaces []string) error {
	connection, err := client.NewLazyClient(client.Options{HostPort: s.Addr(), Logger: silent{}, ConnectionOptions: Connection()})
	if err != nil {
		return err
	}
	defer connection.Close()
	var why error // it does not serve yet, before ctx ended the question
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, 200*time.Millisecond) {
		err := s.serving(ctx, connection, namespaces)
		if err == nil && s.process.Running() {
			return nil
		}
		if ctx.Err() == nil || why == nil {
			why = err
		}
		timer := time.NewTimer(delay)
		select {
		case <-s.process.Done():
			timer.Stop()
			return s.startError()
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s does not serve: %w: %w\n%s", s.Addr(), ctx.Err(), why, s.LogTail())
		case <-timer.C:
		}
	}
}

func (s *Server) serving(ctx context.Context, connection client.Client, namespaces []string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := connection.CheckHealth(ctx, &client.CheckHealthRequest{}); err != nil {
		return err
	}
	for _, namespace := range namespaces {
		request := &workflowservice.DescribeNamespaceRequest{Namespace: namespace}
		if _, err := connection.WorkflowService().DescribeNamespace(ctx, request); err != nil {
			return err
		}
		// A namespace is described before every service has heard of it.
		list := &workflowservice.ListOpenWorkflowExecutionsRequest{Namespace: namespace}
		if _, err := connection.WorkflowService().ListOpenWorkflowExecutions(ctx, list); err != nil {
			return err
		}
	}
	if !s.started() {
		return errors.New("not all of its services have started")
	}
	return nil
}

// started says whether the server has told its address, as it does once all services
// have started: a line of text on its own among the log's, which are JSON.
func (s *Server) started() bool {
	text, err := os.ReadFile(s.LogFile())
	if err != nil {
		return false
	}
	for line := range bytes.Lines(text) {
		if line[0] != '{' && bytes.Contains(line, fmt.Appendf(nil, ":%d\n", s.port)) {
			return true
		}
	}
	return false
}

func (s *Server) startError() error {
	tail := s.LogTail()
	if strings.Contains(tail, "address already in use") {
		return errPortTaken
	}
	if strings.Contains(tail, "failed to start service") && strings.Contains(tail, "deadline exceeded") {
		return fmt.Errorf("%w\n%s", errTooSlow, tail)
	}
	return fmt.Errorf("it ended at once: %w\n%s", s.process.Err(), tail)
}

// Addr is the host:port of the frontend, for client.Options.HostPort.
func (s *Server) Addr() string { return loopback.Address(s.port) }

// Pid is the process id of the server.
func (s *Server) Pid() int { return s.process.Pid() }

// Done is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.process.Done() }

// Err is how a server that has ended by itself did, with the end of its log; nil while
// it runs.
func (s *Server) Err() error {
	if s.process.Running() {
		return nil
	}
	if err := s.process.Err(); err != nil {
		return fmt.Errorf("devserver: it ended: %w\n%s", err, s.LogTail())
	}
	return fmt.Errorf("devserver: it ended\n%s", s.LogTail())
}

// LogFile is the server's log, until Stop unless Options.Dir was given.
func (s *Server) LogFile() string { return filepath.Join(s.dir, logName) }

// LogTail is the end of the log, at most 4 KiB.
func (s *Server) LogTail() string {
	text, err := os.ReadFile(s.LogFile())
	if err != nil {
		return "no log: " + err.Error()
	}
	return string(text[max(0, len(text)-4<<10):])
}

// Stop ends the server and returns when it is gone. It may be called more than
// once.
func (s *Server) Stop() {
	s.stop.Do(func() {
		if s.process != nil {
			s.process.Stop(stopGrace)
		}
		if s.output != nil {
			_ = s.output.Close()
		}
		loopback.Release(s.port)
		if s.ownDir {
			_ = os.RemoveAll(s.dir)
		}
	})
}

// silent is the log of a client whose failures to connect are expected.
type silent struct{}

var _ log.Logger = silent{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}

// Connection is how to talk to a server of this package: what its clients send is not
// compressed, which is the SDK's default and only costs on one machine.
func Connection() client.ConnectionOptions {
	return client.ConnectionOptions{GrpcCompression: &client.GrpcCompressionNone{}}
}
