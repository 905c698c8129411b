//go:build unix

package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// errPortTaken says that the server could not listen, so that another port, or
// the same a little later, may do.
var errPortTaken = errors.New("redistest: port taken")

// waitReady returns when the process answers on its port. offset is where its
// part of the log begins.
func (s *Server) waitReady(ctx context.Context, offset int64) error {
	client := redis.NewClient(s.controlOptions())
	defer func() { _ = client.Close() }()
	var last error
	for delay := 2 * time.Millisecond; ; delay = min(2*delay, 50*time.Millisecond) {
		if last = s.identify(ctx, client); last == nil {
			return nil
		}
		timer := time.NewTimer(delay)
		select {
		case <-s.process.Done():
			timer.Stop()
			return s.startError(offset)
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("redistest: %s does not answer on %s: %w: %w\n%s",
				s.program, s.Addr(), ctx.Err(), last, s.logTail(offset))
		case <-timer.C:
		}
	}
}

// identify proves that who answers on the port is our process: another server
// could have taken the port between its choice and the start.
func (s *Server) identify(ctx context.Context, client *redis.Client) error {
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	want := "process_id:" + strconv.Itoa(s.process.Pid()) + "\r\n"
	if !strings.Contains(info, want) {
		return fmt.Errorf("redistest: %s is another server's", s.Addr())
	}
	return nil
}

func (s *Server) controlOptions() *redis.Options {
	options := s.options()
	options.Username, options.Password = controlUser, s.secret
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = time.Second, time.Second, time.Second
	options.PoolSize, options.MaxRetries = 1, -1
	return options
}

func (s *Server) startError(offset int64) error {
	tail := s.logTail(offset)
	if strings.Contains(tail, "Address already in use") || strings.Contains(tail, "Failed listening on port") {
		return fmt.Errorf("%w: %s", errPortTaken, s.Addr())
	}
	return fmt.Errorf("redistest: %s ended at once: %w\n%s", s.program, s.process.Err(), tail)
}

// logTail is the end of the log from offset on, at most 4 KiB.
func (s *Server) logTail(offset int64) string {
	const most = 4 << 10
	file, err := os.Open(s.LogFile())
	if err != nil {
		return "no log: " + err.Error()
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil {
		offset = max(offset, info.Size()-most)
	}
	text, err := io.ReadAll(io.NewSectionReader(file, offset, most))
	if err != nil {
		return "no log: " + err.Error()
	}
	return string(bytes.TrimSpace(text))
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
