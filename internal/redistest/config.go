//go:build unix

package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	controlUser = "redistest"
	configName  = "redis.conf"
	aclName     = "users.acl"
	logName     = "redis.log"
	socketName  = "redis.sock"
)

// writeConfig writes the configuration, and the ACL file if asked for, into
// the server's directory. Secrets are in files of mode 0600, not on a command
// line that every user of the machine can read.
func (s *Server) writeConfig() error {
	var text strings.Builder
	for _, d := range s.configuration() {
		text.WriteString(d.name)
		for _, value := range d.values {
			text.WriteString(" " + quote(value))
		}
		text.WriteByte('\n')
	}
	users := append([]aclUser{{controlUser, []string{"on", ">" + s.secret, "~*", "&*", "+@all"}}}, s.settings.users...)
	if s.settings.aclFile {
		if err := s.writeACL(users); err != nil {
			return err
		}
	} else {
		for _, user := range users {
			text.WriteString("user " + quote(user.name))
			for _, rule := range user.rules {
				text.WriteString(" " + quote(rule))
			}
			text.WriteByte('\n')
		}
	}
	return os.WriteFile(filepath.Join(s.dir, configName), []byte(text.String()), 0o600)
}

// writeACL writes the users as an ACL file has them: no quotes, so no blanks
// within a rule.
func (s *Server) writeACL(users []aclUser) error {
	var text strings.Builder
	for _, user := range users {
		text.WriteString("user " + user.name + " " + strings.Join(user.rules, " ") + "\n")
	}
	return os.WriteFile(s.ACLFile(), []byte(text.String()), 0o600)
}

func (s *Server) configuration() []directive {
	port := strconv.Itoa(s.port)
	lines := []directive{
		{"bind", []string{"127.0.0.1"}},
		{"dir", []string{s.dir}},
		{"daemonize", []string{"no"}},
		{"save", []string{""}},
		{"appendonly", []string{"no"}},
		{"logfile", []string{""}},
		{"enable-debug-command", []string{"yes"}},
	}
	if s.settings.tls == tlsOff {
		lines = append(lines, directive{"port", []string{port}})
	} else {
		auth := "no"
		if s.settings.tls == tlsMutual {
			auth = "yes"
		}
		lines = append(lines,
			directive{"port", []string{"0"}},
			directive{"tls-port", []string{port}},
			directive{"tls-ca-cert-file", []string{s.certificates.CAFile}},
			directive{"tls-cert-file", []string{s.certificates.ServerCertFile}},
			directive{"tls-key-file", []string{s.certificates.ServerKeyFile}},
			directive{"tls-auth-clients", []string{auth}})
	}
	if s.settings.unixSocket {
		lines = append(lines,
			directive{"unixsocket", []string{s.UnixSocket()}},
			directive{"unixsocketperm", []string{"700"}})
	}
	if s.settings.aclFile {
		lines = append(lines, directive{"aclfile", []string{s.ACLFile()}})
	} else if s.settings.password != "" {
		lines = append(lines, directive{"requirepass", []string{s.settings.password}})
	}
	lines = append(lines, s.groupConfiguration()...)
	return append(lines, s.settings.directives...)
}

// quote writes a value as redis.conf reads it, whatever bytes it has.
func quote(value string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(value) {
		switch c := value[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
