//go:build unix

package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/compozy/temporal-redis/internal/loopback"
	"github.com/compozy/temporal-redis/internal/procs"
)

const (
	portAttempts = 10
	readyBound   = time.Minute
	stopGrace    = 10 * time.Second
	superuser    = "postgres"
)

// Server is a running PostgreSQL. Its methods are safe for concurrent use.
type Server struct {
	bin      string
	account  account
	dir      string
	port     int
	password string
	process  *procs.Process
	output   *os.File
	closing  sync.Once
}

// Run makes a cluster and starts it. settings are "name=value" lines of
// postgresql.conf. ctx bounds the start only; the caller ends the server by
// Close, which removes its directory. It also dies with this process.
func Run(ctx context.Context, settings ...string) (*Server, error) {
	bin, err := Locate()
	if err != nil {
		return nil, err
	}
	who, err := serverAccount()
	if err != nil {
		return nil, err
	}
	dir, err := who.makeDir()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, account: who, dir: dir, password: rand.Text()}
	ctx, cancel := context.WithTimeout(ctx, readyBound)
	defer cancel()
	if err = s.initialise(ctx); err == nil {
		err = s.startSomewhere(ctx, settings)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) initialise(ctx context.Context) error {
	file := filepath.Join(s.dir, "password")
	if err := os.WriteFile(file, []byte(s.password), 0o600); err != nil {
		return fmt.Errorf("pgtest: write password: %w", err)
	}
	if c := s.account.credential; c != nil {
		if err := os.Chown(file, int(c.Uid), int(c.Gid)); err != nil {
			return fmt.Errorf("pgtest: write password: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"),
		"--pgdata", s.data(), "--username", superuser, "--pwfile", file,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	cmd.Dir, cmd.Env = s.dir, environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account.credential}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgtest: initdb: %w\n%s", err, output)
	}
	return os.Remove(file)
}

func (s *Server) startSomewhere(ctx context.Context, settings []string) error {
	var err error
	for range portAttempts {
		if s.port, err = loopback.Port(); err != nil {
			return err
		}
		if err = s.launch(ctx, settings); !errors.Is(err, errPortTaken) {
			return err
		}
		loopback.Release(s.port)
	}
	return err
}

var errPortTaken = errors.New("pgtest: port taken")

func (s *Server) launch(ctx context.Context, settings []string) error {
	output, err := os.Create(s.logFile())
	if err != nil {
		return fmt.Errorf("pgtest: open log: %w", err)
	}
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port), "-k", s.dir, "-h", "127.0.0.1", "-c", "fsync=off"}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	process, err := procs.Start(procs.Command{
		Path: filepath.Join(s.bin, "postgres"), Args: args, Dir: s.dir, Env: environ(),
		Output: output, Credential: s.account.credential,
		// An immediate shutdown: it also gives back the shared memory that a
		// SIGKILL would leave.
		StopSignal: syscall.SIGQUIT, Scratch: s.dir,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("pgtest: start: %w", err), output.Close())
	}
	s.process, s.output = process, output
	if err := s.waitReady(ctx); err != nil {
		s.end()
		return err
	}
	return nil
}

// waitReady asks on the Unix socket, which lies in our directory: who answers
// there is our server.
func (s *Server) waitReady(ctx context.Context) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "pg_isready"), "-q", "-h", s.dir, "-p", strconv.Itoa(s.port))
		cmd.Env = environ()
		if cmd.Run() == nil {
			return nil
		}
		select {
		case <-s.process.Done():
			log := s.logText()
			if strings.Contains(log, "Address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("pgtest: postgres ended at once: %w\n%s", s.process.Err(), log)
		case <-ctx.Done():
			return fmt.Errorf("pgtest: postgres is not ready: %w\n%s", ctx.Err(), s.logText())
		case <-ticker.C:
		}
	}
}

// Query runs SQL by psql on the database postgres and returns the rows without
// decoration. For tests that need no driver.
func (s *Server) Query(ctx context.Context, sql string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "psql"),
		"--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1",
		"-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", superuser, "-d", "postgres", "-c", sql)
	cmd.Env = append(environ(), "PGPASSWORD="+s.password)
	output, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return "", fmt.Errorf("pgtest: psql: %w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("pgtest: psql: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
}

// URL is postgres:// for the superuser on the database postgres, with its
// password.
func (s *Server) URL() string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, s.password),
		Host: loopback.Address(s.port), Path: "/postgres", RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Pid is the process id of the postmaster.
func (s *Server) Pid() int { return s.process.Pid() }

// Close ends the server and removes its directory. It may be called more than
// once.
func (s *Server) Close() {
	s.closing.Do(func() {
		s.end()
		loopback.Release(s.port)
		_ = os.RemoveAll(s.dir)
	})
}

func (s *Server) end() {
	if s.process != nil {
		s.process.Stop(stopGrace)
		_ = s.output.Close()
		s.process = nil
	}
}

func (s *Server) data() string    { return filepath.Join(s.dir, "data") }
func (s *Server) logFile() string { return filepath.Join(s.dir, "postgres.log") }

func (s *Server) logText() string {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return "no log: " + err.Error()
	}
	return string(text[max(0, len(text)-4<<10):])
}

// environ keeps the caller's PG* variables and language out.
func environ() []string {
	return append(procs.Environ("PG", "LC_", "LANG", "LANGUAGE"), "LC_ALL=C")
}
