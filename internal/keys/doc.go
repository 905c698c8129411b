// Package keys is the one place where names in Redis are made: keys, hash tags
// and channels.
//
// It promises that two different identities never meet in one name (ids are
// percent-encoded, so the separators and the hash-tag braces cannot come from
// an id), that names which must change together share a Redis Cluster slot
// (they carry the same hash tag), and that no name grows without bound.
//
// Not for: secrets. Key names are visible to SCAN, MONITOR and the slow log,
// whatever the ACL says, so nothing secret may become part of an id.
package keys
