// Package loopback picks free TCP ports on 127.0.0.1 for servers that tests and
// the demo start.
//
// It promises a port that was free a moment ago, that no other call was given, in
// this process or in another that uses this package, that no well-known service
// uses and that the kernel does not hand to outgoing connections: so a server that
// was killed can start again on its port while clients keep dialling it, and finds
// nobody else there.
//
// Not for: keeping a port from programs that do not use this package. Such a one can
// take it before the server listens; who starts a server asks for another port then.
package loopback
