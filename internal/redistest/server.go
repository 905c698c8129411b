//go:build unix

package redistest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/compozy/temporal-redis/internal/loopback"
	"github.com/compozy/temporal-redis/internal/procs"
)

const (
	portAttempts = 20
	readyBound   = 30 * time.Second
	stopGrace    = 5 * time.Second
)

// Server is a redis-server process. Its methods are safe for concurrent use.
type Server struct {
	settings     settings
	program      string
	dir          string
	port         int
	busPort      int    // of a member of a cluster, else 0
	secret       string // password of the control user
	certificates *Certificates

	mu      sync.Mutex // serialises changes of state
	process *procs.Process
	output  *os.File
	closed  bool
}

// Run starts a server that keeps its files in dir, which must exist and stay
// below 80 characters when a Unix socket is asked for. ctx bounds the start
// only. The caller ends it by Close; it also dies with this process.
func Run(ctx context.Context, dir string, opts ...Option) (*Server, error) {
	program, err := Locate(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{program: program, dir: dir, secret: rand.Text()}
	for _, opt := range opts {
		opt(&s.settings)
	}
	s.certificates = s.settings.group.certificates
	if s.settings.tls != tlsOff && s.certificates == nil {
		if s.certificates, err = NewCertificates(dir); err != nil {
			return nil, err
		}
	}
	if err := s.startSomewhere(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// startSomewhere tries ports until the server could listen on one.
func (s *Server) startSomewhere(ctx context.Context) error {
	var err error
	for range portAttempts {
		if err = s.takePorts(); err != nil {
			return err
		}
		if err = s.writeConfig(); err == nil {
			err = s.launch(ctx)
		}
		if err == nil {
			return nil
		}
		s.releasePorts()
		if !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// takePorts picks the ports that the server listens on.
func (s *Server) takePorts() (err error) {
	if s.port, err = loopback.Port(); err != nil {
		return err
	}
	if s.settings.group.kind == clusterNode {
		if s.busPort, err = loopback.Port(); err != nil {
			loopback.Release(s.port)
		}
	}
	return err
}

func (s *Server) releasePorts() {
	loopback.Release(s.port)
	if s.busPort != 0 {
		loopback.Release(s.busPort)
	}
}

// launch starts the process on the port that s has and waits until it answers.
func (s *Server) launch(ctx context.Context) error {
	output, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("redistest: open log: %w", err)
	}
	offset, err := output.Seek(0, 2)
	if err != nil {
		return errors.Join(fmt.Errorf("redistest: open log: %w", err), output.Close())
	}
	command := procs.Command{
		Path:   s.program,
		Args:   append([]string{filepath.Join(s.dir, configName)}, s.settings.program...),
		Dir:    s.dir,
		Env:    []string{"LC_ALL=C"},
		Output: output,

		Scratch: s.settings.scratch,
	}
	process, err := procs.Start(command)
	if err != nil {
		return errors.Join(fmt.Errorf("redistest: start: %w", err), output.Close())
	}
	s.process, s.output = process, output
	ctx, cancel := context.WithTimeout(ctx, readyBound)
	defer cancel()
	if err := s.waitReady(ctx, offset); err != nil {
		s.end(process.Kill)
		return err
	}
	return nil
}

// end brings the process down by the given means.
func (s *Server) end(by func()) {
	if s.process == nil {
		return
	}
	by()
	_ = s.output.Close()
	s.process, s.output = nil, nil
}

// Kill ends the server by SIGKILL, as a crash would, and returns when it is
// gone. A server that is down stays down.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.end(s.process.Kill)
	}
}

// Shutdown ends the server by SIGTERM, as an operator would, and returns when
// it is gone.
func (s *Server) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if process := s.process; process != nil {
		s.end(func() { process.Stop(stopGrace) })
	}
}

// Restart starts the server again on its port and directory, killing it first
// if it runs, and returns when it answers. ctx bounds the wait.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("redistest: restart after Close")
	}
	if s.process != nil {
		s.end(s.process.Kill)
	}
	var err error
	for range portAttempts {
		if err = s.launch(ctx); !errors.Is(err, errPortTaken) {
			return err
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			break
		}
	}
	return err
}

// Pause stops the process by SIGSTOP: connections stay open, nothing is
// answered.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume continues a paused server.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return fmt.Errorf("redistest: signal %s: the server is down", signal)
	}
	return s.process.Signal(signal)
}

// Close ends the server for good and gives its port back. The directory stays.
func (s *Server) Close() {
	s.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.releasePorts()
	}
}

// Addr is host:port.
func (s *Server) Addr() string { return loopback.Address(s.port) }

// Port is the TCP port, with TLS or without.
func (s *Server) Port() int { return s.port }

// Dir is the directory with the server's files.
func (s *Server) Dir() string { return s.dir }

// Pid is the process id, 0 when the server is down.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.Pid()
}

// LogFile is what the server wrote, over all its starts.
func (s *Server) LogFile() string { return filepath.Join(s.dir, logName) }

// ACLFile is the file of WithACLFile.
func (s *Server) ACLFile() string { return filepath.Join(s.dir, aclName) }

// UnixSocket is the path of the socket of WithUnixSocket.
func (s *Server) UnixSocket() string { return filepath.Join(s.dir, socketName) }

// Certificates are those of WithTLS and WithMutualTLS, else nil.
func (s *Server) Certificates() *Certificates { return s.certificates }

// URL is redis:// or rediss:// for the default user, with its password.
func (s *Server) URL() string { return s.url("") }

// URLFor is URL for another user.
func (s *Server) URLFor(user, password string) string {
	u := url.URL{Scheme: s.scheme(), User: url.UserPassword(user, password), Host: s.Addr(), Path: "/0"}
	return u.String()
}

// UnixURL is unix:// for the default user, with its password.
func (s *Server) UnixURL() string { return s.url(s.UnixSocket()) }

func (s *Server) url(socket string) string {
	u := url.URL{Scheme: s.scheme(), Host: s.Addr(), Path: "/0"}
	if socket != "" {
		u = url.URL{Scheme: "unix", Path: socket}
	}
	if s.settings.password != "" {
		u.User = url.UserPassword("", s.settings.password)
	}
	return u.String()
}

func (s *Server) scheme() string {
	if s.settings.tls != tlsOff {
		return "rediss"
	}
	return "redis"
}
