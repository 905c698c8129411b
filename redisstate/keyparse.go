package redisstate

import (
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
)

// ParseEncryptionKeys reads keys, newest first, from a text like that of
// REDIS_ENCRYPTION_KEYS: id:base64, separated by commas or line breaks. Empty
// lines and those that start with # do not count. Errors wrap
// ErrInvalidOptions and repeat nothing of the text.
func ParseEncryptionKeys(text string) ([]EncryptionKey, error) {
	var keys []EncryptionKey
	var errs []error
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for entry := range strings.SplitSeq(line, ",") {
			if entry = strings.TrimSpace(entry); entry == "" {
				continue
			}
			key, ok := parseEncryptionKey(entry)
			if !ok {
				errs = append(errs, invalid("encryption key %d is malformed; use id:base64 with %d bytes, as openssl rand -base64 %d makes them",
					len(keys)+1, EncryptionKeyBytes, EncryptionKeyBytes))
			}
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, invalid("no encryption keys given; use id:base64, newest first")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return keys, nil
}

func parseEncryptionKey(entry string) (EncryptionKey, bool) {
	id, encoded, found := strings.Cut(entry, ":")
	secret, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(encoded, "="))
	if !found || err != nil || len(secret) != EncryptionKeyBytes || !validKeyID(id) {
		return EncryptionKey{}, false
	}
	return EncryptionKey{ID: id, Key: secret}, true
}

// unnamed is what the system said of a file without its name, which is the secret itself
// where that was given in place of the file's.
func unnamed(err error) error {
	if said, ok := errors.AsType[*fs.PathError](err); ok {
		return said.Err
	}
	return err
}

// maxKeyFile bounds what is read of a file of keys.
const maxKeyFile = 64 << 10

// ReadEncryptionKeys reads keys, newest first, one id:base64 a line, from a file
// that only this process should be able to read. A process that is told to
// rotate its keys reads it again and gives the keys to KeyRing.Replace. Errors
// wrap ErrInvalidOptions and repeat nothing of the file.
func ReadEncryptionKeys(file string) ([]EncryptionKey, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, invalid("encryption keys: the file: %w", unnamed(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, invalid("encryption keys: the file: %w", unnamed(err))
	}
	if len(text) > maxKeyFile {
		return nil, invalid("encryption keys: the file is larger than %d bytes; use one id:base64 a line", maxKeyFile)
	}
	return ParseEncryptionKeys(string(text))
}
