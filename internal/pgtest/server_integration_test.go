//go:build integration && unix

package pgtest

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestServerAnswersAndGoesAway(t *testing.T) {
	t.Parallel()
	server := Start(t, "work_mem=1MB")
	if got, err := server.Query(t.Context(), "SELECT 1"); err != nil || got != "1" {
		t.Fatalf("SELECT 1: %q, %v", got, err)
	}
	if got, err := server.Query(t.Context(), "SHOW work_mem"); err != nil || got != "1MB" {
		t.Errorf("setting: %q, %v", got, err)
	}
	if _, err := server.Query(t.Context(), "SELECT nonsense"); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("wrong SQL: %v", err)
	}
	server.Close()
	if _, err := os.Stat(server.dir); !os.IsNotExist(err) {
		t.Errorf("directory after Close: %v", err)
	}
}

func TestServerIsClosedToOthers(t *testing.T) {
	t.Parallel()
	server := Start(t)
	stranger := &Server{bin: server.bin, port: server.port, password: "guess"}
	if _, err := stranger.Query(t.Context(), "SELECT 1"); err == nil || !strings.Contains(err.Error(), "authentication failed") {
		t.Errorf("query with a wrong password: %v", err)
	}
}

func TestRootNeverRunsTheServer(t *testing.T) {
	t.Parallel()
	server := Start(t)
	info, err := os.Stat(filepath.Join(server.data(), "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		t.Errorf("the server runs as user %v", owner)
	}
}

func TestDirectoryAvoidsATemporaryDirectoryThatIsClosed(t *testing.T) {
	if os.Geteuid() != 0 {
		// Without another user there is nothing to avoid: the directory is ours.
		return
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", closed)
	server := Start(t)
	if strings.HasPrefix(server.dir, closed) {
		t.Errorf("directory %s lies below one that %s cannot enter", server.dir, server.account.name)
	}
}
