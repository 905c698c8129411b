//go:build unix

package devserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"

	"github.com/compozy/temporal-redis/internal/procs"
)

const (
	toolsDir      = "tools/temporal"
	cliPackage    = "github.com/temporalio/cli/cmd/temporal"
	downloadBound = 20 * time.Second
)

// Provide returns what Locate finds and else puts a Temporal CLI at
// root/bin/temporal: by the download that the SDK pins, which gets 20 s, else by
// a build of the pinned tools module, which takes minutes. progress is told
// what happens.
func Provide(ctx context.Context, root string, progress io.Writer) (string, error) {
	path, err := Locate(ctx, root)
	if err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		return "", fmt.Errorf("devserver: provide: %w", err)
	}
	say(progress, "Temporal dev server: none yet; trying the SDK's download (at most %v)", downloadBound)
	downloadErr := download(ctx, root)
	if downloadErr == nil {
		return ownPath(root), nil
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("devserver: provide: %w", ctx.Err())
	}
	say(progress, "Temporal dev server: no download (%v); building it from %s, which takes 3 to 6 minutes", downloadErr, toolsDir)
	started := time.Now()
	if err := build(ctx, root, progress); err != nil {
		return "", fmt.Errorf("devserver: provide: download: %w; build: %w", downloadErr, err)
	}
	say(progress, "Temporal dev server: built in %v", time.Since(started).Round(time.Second))
	return ownPath(root), nil
}

func say(progress io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(progress, format+"\n", args...)
}

// download lets the SDK fetch the CLI that belongs to it. The SDK has no call
// for that alone: it fetches, then starts. So what it starts is `--help`, which
// ends by itself, and the wait for a server is cut as soon as the file is there.
func download(ctx context.Context, root string) error {
	dir, err := os.MkdirTemp(filepath.Join(root, "bin"), ".download-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(ctx, downloadBound)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err = testsuite.StartDevServer(ctx, testsuite.DevServerOptions{
			CachedDownload: testsuite.CachedDownload{DestDir: dir},
			ClientOptions:  &client.Options{Logger: silent{}},
			ExtraArgs:      []string{"--help"},
			Stdout:         io.Discard, Stderr: io.Discard,
		})
	}()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if found, _ := filepath.Glob(filepath.Join(dir, "temporal-cli-go-sdk-*")); len(found) == 1 {
			cancel()
			<-ended
			return adopt(context.WithoutCancel(ctx), found[0], root)
		}
		select {
		case <-ended:
			if err == nil {
				err = errors.New("the SDK left no file")
			}
			return err
		case <-ticker.C:
		}
	}
}

// build compiles the CLI of the tools module.
func build(ctx context.Context, root string, progress io.Writer) error {
	dir, err := os.MkdirTemp(filepath.Join(root, "bin"), ".build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	built := filepath.Join(dir, "temporal")
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", built, cliPackage)
	cmd.Dir = filepath.Join(root, toolsDir)
	cmd.Env = append(procs.Environ("GOWORK=", "GOFLAGS=", "GOOS=", "GOARCH="), "GOWORK=off")
	cmd.Stdout, cmd.Stderr = progress, progress
	// An interrupt lets it end its compilers, too.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build in %s: %w", toolsDir, err)
	}
	return adopt(ctx, built, root)
}

// adopt moves a CLI that works to its place, whole or not at all.
func adopt(ctx context.Context, path, root string) error {
	if err := check(ctx, path); err != nil {
		return err
	}
	return os.Rename(path, ownPath(root))
}
