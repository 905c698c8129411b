// Package loopback picks free TCP ports on 127.0.0.1 for servers that tests and
// the demo start.
//
// It promises a port that was free a moment ago, that no other call in this
// process was given, that no well-known service uses and that the kernel does
// not hand to outgoing connections: so a server that was killed can start again
// on its port while clients keep dialling it.
//
// Not for: reserving a port. Another process can take it before the server
// listens; who starts a server asks for another port then.
package loopback
