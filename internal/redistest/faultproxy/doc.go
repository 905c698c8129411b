// Package faultproxy stands between a client and a server over TCP and does
// what networks do: it is slow, falls silent in one direction or both, resets
// connections, refuses new ones, leads to another server, and loses replies, so
// that a command was executed and nobody knows.
//
// It promises that faults come where they were asked for: at once by a method
// (Reset, LoseReplies, BlackHole, Refuse, Delay), or at random by a seeded
// Chaos, and that Heal ends all of them. Counts tells what happened.
//
//	proxy := faultproxy.Start(t, server.Addr())
//	proxy.LoseReplies() // of the next command on each present connection
//
// Not for: TLS in the middle (bytes pass as they are, so TLS works through it),
// nor Cluster and Sentinel clients, which are told the servers' own addresses
// and go around it.
package faultproxy
