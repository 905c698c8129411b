// Package bus is the one pub/sub connection of a process: every channel that
// anybody listens to shares it, messages are handed out in memory.
//
// A message is a bell. Redis' pub/sub forgets what it could not deliver, so the
// bus promises no message; it promises to say when messages may be missing.
// Each time a channel is (again) subscribed for certain, its listeners are told
// (Confirmed), and look themselves at what the bell was for.
//
// States of the connection:
//
//	idle       nobody listens, there is no connection
//	connecting dialled anew after each failure, within a second of Redis answering
//	listening  channels are being confirmed, messages come in
//
// A connection that is dead without having been closed delivers nothing and
// reports nothing. The bus therefore rings a channel of its own, through the
// ordinary clients' path, and gives the connection up when nothing at all came
// in for three such intervals.
//
// Not for: payloads that must arrive, or work in the handlers (they run on the
// receiving goroutine and must not block).
package bus
