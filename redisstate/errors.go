package redisstate

import (
	"errors"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Errors of this package, for errors.Is. Those about Redis itself are the same
// values that locking and notifier use.
var (
	// ErrUnavailable says that Redis cannot serve the operation for a reason
	// that passes. Whether a write was executed is unknown; writing again is
	// safe.
	ErrUnavailable = rediserr.ErrUnavailable
	// ErrDenied says that Redis refused access: user, password, ACL or TLS. It
	// passes only when an operator acts.
	ErrDenied = rediserr.ErrDenied
	// ErrClosed says that the store or its client was closed.
	ErrClosed = rediserr.ErrClosed
	// ErrNotFound says that the config or metadata is not in Redis: it expired,
	// was evicted or deleted, or was never saved. It comes in a MissingError.
	ErrNotFound = errors.New("not found: it expired, was evicted or deleted")
	// ErrCorrupt says that the stored bytes are not what was saved, or cannot be
	// decoded into the type asked for. Trying again does not help.
	ErrCorrupt = errors.New("stored value is corrupt")
	// ErrNewerFormat says that a newer release of this module wrote the value in
	// a format that this one does not know. A newer worker can read it.
	ErrNewerFormat = errors.New("stored value was written by a newer release in a format unknown here; upgrade this process")
	// ErrUnknownKey says that the value is encrypted under a key that is not in
	// Options.Keys: its id is missing there or names another key. A process that
	// has the key can read it.
	ErrUnknownKey = errors.New("encrypted under a key that this process does not have")
	// ErrNotEncrypted says that the value is not encrypted and
	// Options.RequireEncryption refuses it.
	ErrNotEncrypted = errors.New("not encrypted, which Options.RequireEncryption refuses; save it again")
	// ErrWrongType says that something else than a config is stored under the
	// config's key.
	ErrWrongType = errors.New("the key holds another type of value; another program writes under our namespace")
	// ErrTooLarge says that a config or metadata is over Options.MaxConfigBytes:
	// one to save, or one that was stored compressed and would be once
	// decompressed.
	ErrTooLarge = errors.New("value is too large")
	// ErrInvalidKey says that an id, a digest or a workflow id cannot be used.
	ErrInvalidKey = errors.New("invalid key")
	// ErrInvalidValue says that a value to save is not JSON and cannot be
	// marshalled to it, that its time to live is negative, or that what to decode
	// into is no pointer.
	ErrInvalidValue = errors.New("invalid value")
	// ErrRolledBack is for the host to wrap: the transaction in Cache.Change or
	// Changes.Commit was certainly not committed, and will not be.
	ErrRolledBack = errors.New("rolled back")
	// ErrInvalidOptions says that options or environment variables are wrong.
	ErrInvalidOptions = errors.New("invalid options")
)

// Error is an error from Redis with the operation, the key family and the
// class; errors.As finds it. Its cause is the client's own error.
type Error = rediserr.Error
