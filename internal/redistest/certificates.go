//go:build unix

package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificates are the files of one throw-away authority. All of them are in
// PEM. The server's certificate is for 127.0.0.1, ::1 and localhost.
type Certificates struct {
	CAFile                         string
	ServerCertFile, ServerKeyFile  string
	ClientCertFile, ClientKeyFile  string
	authority, server, clientChain tls.Certificate
	pool                           *x509.CertPool
}

// NewCertificates makes an authority, a server certificate and a client
// certificate, valid for a day, in dir.
func NewCertificates(dir string) (*Certificates, error) {
	c := &Certificates{
		CAFile:         filepath.Join(dir, "ca.crt"),
		ServerCertFile: filepath.Join(dir, "server.crt"), ServerKeyFile: filepath.Join(dir, "server.key"),
		ClientCertFile: filepath.Join(dir, "client.crt"), ClientKeyFile: filepath.Join(dir, "client.key"),
		pool: x509.NewCertPool(),
	}
	steps := []func() error{
		func() (err error) { c.authority, err = issue(nil, "redistest authority", c.CAFile, ""); return err },
		func() (err error) {
			c.server, err = issue(&c.authority, "redistest server", c.ServerCertFile, c.ServerKeyFile)
			return err
		},
		func() (err error) {
			c.clientChain, err = issue(&c.authority, "redistest client", c.ClientCertFile, c.ClientKeyFile)
			return err
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("redistest: make certificates: %w", err)
		}
	}
	c.pool.AddCert(c.authority.Leaf)
	return c, nil
}

// ClientConfig is what a client needs to talk to the server: the authority and
// the client certificate.
func (c *Certificates) ClientConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: "localhost",
		RootCAs: c.pool, Certificates: []tls.Certificate{c.clientChain},
	}
}

// issue signs a certificate by parent, or by itself without one, and writes
// the files that have a name.
func issue(parent *tls.Certificate, name, certFile, keyFile string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := certificateTemplate(name, parent == nil)
	signer, signerKey := template, any(key)
	if parent != nil {
		signer, signerKey = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := writePEM(certFile, "CERTIFICATE", der); err != nil {
		return tls.Certificate{}, err
	}
	if err := writePEM(keyFile, "PRIVATE KEY", keyDER); err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func certificateTemplate(name string, authority bool) *x509.Certificate {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if authority {
		template.IsCA = true
		template.BasicConstraintsValid = true
		template.KeyUsage = x509.KeyUsageCertSign
		template.ExtKeyUsage, template.DNSNames, template.IPAddresses = nil, nil, nil
	}
	return template
}

func writePEM(path, kind string, der []byte) error {
	if path == "" {
		return nil
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
