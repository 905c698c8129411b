// Package harness compares what we do with what others do, fairly, on a machine
// that is never quite quiet.
//
// The idea: a Row is one comparison, of two sides that do the same work for the
// caller. Both run in one process against servers started for the row, in short
// turns that alternate ABBA, so that what disturbs the machine disturbs both. A
// round is many turns; each round gives one ratio; the row's value is the median
// of at least MinRounds ratios, and its spread is (max - min) / median. Warm-up
// turns are not counted, and garbage is collected between rounds, not for one
// side's account. Every sample is kept in a file per row.
//
// States of a Lab: open while its row runs; closing it stops every server and
// removes every file of the row.
//
// Not for: tests. A bar that is missed is printed and never fails anything, and
// nothing that fails may depend on how fast a machine is. Nor for absolute
// numbers of a production system: both sides share two ends of one loopback.
package harness
