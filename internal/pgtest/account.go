//go:build unix

package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is who runs the server.
type account struct {
	name       string
	credential *syscall.Credential // nil for the user of this process
}

// serverAccount is the user of this process unless that is root.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, errUID := strconv.ParseUint(found.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(found.Gid, 10, 32)
		if err := errors.Join(errUID, errGID); err != nil {
			errs = append(errs, err)
			continue
		}
		return account{name, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: false}}, nil
	}
	return account{}, fmt.Errorf("pgtest: PostgreSQL does not run as root and there is no other user for it: %w", errors.Join(errs...))
}

// makeDir makes a new directory that belongs to the account, below the
// temporary directory if everybody can enter that, else below /tmp or /var/tmp.
func (a account) makeDir() (string, error) {
	bases := []string{os.TempDir()}
	if a.credential != nil {
		bases = append(bases, "/tmp", "/var/tmp")
	}
	for _, base := range bases {
		if a.credential != nil && !everybodyEnters(base) {
			continue
		}
		dir, err := os.MkdirTemp(base, "pgtest-")
		if err != nil {
			return "", fmt.Errorf("pgtest: make directory: %w", err)
		}
		if a.credential == nil {
			return dir, nil
		}
		if err := os.Chown(dir, int(a.credential.Uid), int(a.credential.Gid)); err != nil {
			return "", errors.Join(fmt.Errorf("pgtest: give directory to %s: %w", a.name, err), os.RemoveAll(dir))
		}
		return dir, nil
	}
	return "", fmt.Errorf("pgtest: user %s can enter none of %v; set TMPDIR to a directory that everybody can enter", a.name, bases)
}

// everybodyEnters says whether dir and all above it have the x bit for others.
func everybodyEnters(dir string) bool {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	for {
		info, err := os.Stat(dir)
		if err != nil || !info.IsDir() || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
		dir = filepath.Dir(dir)
	}
}
