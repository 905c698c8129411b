package redisstate

import (
	"fmt"

	"github.com/compozy/temporal-redis/internal/keys"
)

// DigestPrefix starts every Digest and names its algorithm.
const DigestPrefix = "sha256:"

// Digest identifies content: "sha256:" and 64 lower-case hex digits of the
// SHA-256 of the canonical JSON.
type Digest string

// Key names a config: the current content of an id or, with a digest, exactly
// that content.
type Key struct {
	// ID is the config's id: 1 to 1024 bytes of UTF-8. Any character is
	// allowed; ids are percent-encoded in key names, which are not secret.
	ID string
	// Digest pins the content. Empty means the current content.
	Digest Digest
}

// ID is the Key of the current content of id.
func ID(id string) Key { return Key{ID: id} }

// Ref names content that was saved. It is small, holds no secret and may travel
// through workflow histories.
type Ref struct {
	ID     string `json:"id"`
	Digest Digest `json:"digest"`
}

// Key is the pinned key of r.
func (r Ref) Key() Key { return Key(r) }

// checkID checks an id that becomes part of a key name.
func checkID(field, id string) error {
	if err := keys.Check(field, id); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidKey, err)
	}
	return nil
}

// checkWorkflow checks the id of a workflow, which may be empty.
func checkWorkflow(id string) error {
	if id == "" {
		return nil
	}
	return checkID("workflow id", id)
}

// check checks a key and gives its digest in binary; pinned tells whether it
// has one.
func (k Key) check() (s sum, pinned bool, err error) {
	if err := checkID("config id", k.ID); err != nil {
		return sum{}, false, err
	}
	if k.Digest == "" {
		return sum{}, false, nil
	}
	s, err = parseDigest(k.Digest)
	return s, true, err
}
