package locking

import (
	"crypto/rand"
	"encoding/base64"
)

// tokenLen is the length of all tokens.
const tokenLen = 22

// newToken makes the secret by which Redis knows a holder. All tokens have the
// same length: redislock compares a held lock with the wanted token as a
// prefix, so a shorter one could pass for the holder's.
func newToken() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails; the program ends if the system has no randomness
	return base64.RawURLEncoding.EncodeToString(random[:])
}
