package redisstate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
)

// TLSMode says whether connections are encrypted.
type TLSMode int

const (
	// TLSByURL follows the URL: rediss and rediss+... are encrypted.
	TLSByURL TLSMode = iota
	// TLSOn encrypts whatever the URL says.
	TLSOn
	// TLSOff does not encrypt; with a rediss URL it is an error.
	TLSOff
)

// TLSOptions are the settings of encrypted connections: TLS 1.2 at least, and
// the server's certificate is always verified.
type TLSOptions struct {
	// Mode says whether to encrypt. Defaults to TLSByURL.
	Mode TLSMode
	// CAFile holds the PEM certificates of the authorities that are trusted.
	// Defaults to the system's.
	CAFile string
	// CertFile and KeyFile hold our own certificate and its key (PEM), for
	// servers that ask for one. Defaults to none.
	CertFile, KeyFile string
	// ServerName is the name that the server's certificate must carry. Defaults
	// to the host of the URL.
	ServerName string
	// Config is used instead of the files where certificates come from
	// elsewhere. It is cloned; its MinVersion is raised to TLS 1.2, and
	// InsecureSkipVerify is refused unless it has a VerifyConnection of its
	// own. Defaults to none.
	Config *tls.Config
}

// validate checks what can be checked without reading files.
func (o TLSOptions) validate(t target) error {
	var errs []error
	encrypted := o.enabled(t)
	switch {
	case o.Mode < TLSByURL || o.Mode > TLSOff:
		errs = append(errs, invalid("TLS.Mode is %d; use TLSByURL, TLSOn or TLSOff", o.Mode))
	case o.Mode == TLSOff && t.tls:
		errs = append(errs, invalid("TLS is off (REDIS_TLS=false or TLS.Mode) and the URL's scheme asks for it; use redis:// or leave TLS alone"))
	case o.Mode == TLSOn && t.kind == unixSocket:
		errs = append(errs, invalid("TLS is on (REDIS_TLS=true or TLS.Mode) and the URL is a unix socket, which needs none; leave TLS alone"))
	case !encrypted && o.given() && t.kind != embedded:
		errs = append(errs, invalid("TLS settings are given and TLS is off; use rediss:// or REDIS_TLS=true, or remove them"))
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		errs = append(errs, invalid("TLS.CertFile and TLS.KeyFile (REDIS_TLS_CERT, REDIS_TLS_KEY) belong together; give both"))
	}
	if o.Config != nil {
		if o.CAFile != "" || o.CertFile != "" || o.ServerName != "" {
			errs = append(errs, invalid("TLS.Config is given besides TLS files or a ServerName; put them into the Config"))
		}
		if o.Config.InsecureSkipVerify && o.Config.VerifyConnection == nil {
			errs = append(errs, invalid("TLS.Config has InsecureSkipVerify; name your CA instead, or give it a VerifyConnection"))
		}
	}
	return errors.Join(errs...)
}

func (o TLSOptions) given() bool {
	return o.CAFile != "" || o.CertFile != "" || o.KeyFile != "" || o.ServerName != "" || o.Config != nil
}

func (o TLSOptions) enabled(t target) bool {
	if t.kind == embedded {
		return false
	}
	return o.Mode == TLSOn || (o.Mode == TLSByURL && t.tls)
}

// config builds the client's TLS configuration; nil when TLS is off. Where no
// server name is given the client verifies the host it dials.
func (o TLSOptions) config(t target) (*tls.Config, error) {
	if !o.enabled(t) {
		return nil, nil
	}
	if o.Config != nil {
		config := o.Config.Clone()
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
		return config, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, invalid("TLS.CAFile (REDIS_TLS_CA): the file: %w", unnamed(err))
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, invalid("TLS.CAFile (REDIS_TLS_CA): no PEM certificate in %s", o.CAFile)
		}
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, invalid("TLS.CertFile and TLS.KeyFile (REDIS_TLS_CERT, REDIS_TLS_KEY), which name files: %w", unnamed(err))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
