//go:build unix

package redistest

import "strings"

// Option configures a server.
type Option func(*settings)

type settings struct {
	password   string
	users      []aclUser
	aclFile    bool
	unixSocket bool
	tls        tlsMode
	directives []directive
	program    []string // arguments after the configuration file
	scratch    string   // directory that goes when this process dies
	group      group
	sentinels  sentinelSettings
}

type aclUser struct {
	name  string
	rules []string
}

type directive struct {
	name   string
	values []string
}

type tlsMode int

const (
	tlsOff tlsMode = iota
	tlsServer
	tlsMutual
)

// WithPassword sets the password of the default user. Defaults to none.
func WithPassword(password string) Option {
	return func(s *settings) { s.password = password }
}

// WithUser adds an ACL user: WithUser("reader", "on", ">secret", "~*", "+@read").
func WithUser(name string, rules ...string) Option {
	return func(s *settings) { s.users = append(s.users, aclUser{name, rules}) }
}

// WithACLFile keeps the users in a file, Server.ACLFile, so that ACL LOAD and
// ACL SAVE work. lines are whole ACL lines, "user default off"; others are left
// out.
func WithACLFile(lines ...string) Option {
	return func(s *settings) {
		s.aclFile = true
		for _, line := range lines {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "user" {
				s.users = append(s.users, aclUser{fields[1], fields[2:]})
			}
		}
	}
}

// WithUnixSocket also listens on a Unix socket, Server.UnixSocket.
func WithUnixSocket() Option {
	return func(s *settings) { s.unixSocket = true }
}

// WithTLS listens with TLS only, under a certificate of a new authority (see
// Server.Certificates). Clients need none of their own.
func WithTLS() Option {
	return func(s *settings) { s.tls = tlsServer }
}

// WithMutualTLS is WithTLS for servers that ask clients for a certificate.
func WithMutualTLS() Option {
	return func(s *settings) { s.tls = tlsMutual }
}

// WithConfig adds a line of configuration: WithConfig("maxmemory", "1mb"). It
// comes after our own lines and wins over them.
func WithConfig(name string, values ...string) Option {
	return func(s *settings) { s.directives = append(s.directives, directive{name, values}) }
}

// WithPersistence keeps data over a Kill and Restart: an append-only file,
// synced on every write.
func WithPersistence() Option {
	return func(s *settings) {
		s.directives = append(s.directives,
			directive{"appendonly", []string{"yes"}},
			directive{"appendfsync", []string{"always"}})
	}
}

// WithArgs adds command-line arguments after the configuration file, such as
// "--sentinel".
func WithArgs(args ...string) Option {
	return func(s *settings) { s.program = append(s.program, args...) }
}

// WithScratch removes dir, the server's directory, when this process dies
// without Close. It must have been made for the server alone.
func WithScratch(dir string) Option { return func(s *settings) { s.scratch = dir } }
