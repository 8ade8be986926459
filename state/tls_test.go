package state

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
)

// authority is a CA of a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	path string // of its certificate
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.path, _ = a.issue(t, name, template)
	return a
}

// issue signs a certificate and returns the paths of it and of its key; the first one is the CA's own.
func (a *authority) issue(t *testing.T, name string, template *x509.Certificate) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.Subject = pkix.Name{CommonName: name}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-2 * time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	if a.cert == nil {
		a.cert, a.key = template, private
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// server is a certificate for 127.0.0.1, client one for no address.
func (a *authority) server(t *testing.T) (cert, key string) {
	return a.issue(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

func (a *authority) client(t *testing.T) TLSFiles {
	cert, key := a.issue(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return TLSFiles{CA: a.path, Cert: cert, Key: key}
}

// startTLS starts a redis-server that takes TLS on a port of its own, from clients that show a certificate of a.
func startTLS(t *testing.T, a *authority, cert, key string) (r *redisServer, url string) {
	t.Helper()
	port := freePort(t)
	r = startRedis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", a.path, "--tls-auth-clients", "yes")
	return r, "rediss://127.0.0.1:" + port
}

// secured is a backend whose nodes use TLS.
func secured(t *testing.T, r *redisServer, url string, files TLSFiles) *backend {
	t.Helper()
	a, err := ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return &backend{name: "redis-server", options: a.options(files), redis: r}
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.server(t)
	r, url := startTLS(t, ca, cert, key)
	b := observed(t, secured(t, r, url, ca.client(t)))
	n := b.start(t, "nodeAAAA", recovering)
	other := b.start(t, "nodeBBBB", recovering)
	n.connect(t, "u1", "s1")
	b.expectSet(t, onlineKey, "u1")
	subscribe(t, other, "/", "r1", 1)
	n.accepted(t, "r1", "over TLS")
	expectTexts(t, other, "over TLS")

	r.stop()
	r.start(t)
	eventually(t, "ready again", n.Ready)
}

// Renewed files are used for the next connection.
func TestTLSFilesAreReadAgain(t *testing.T) {
	ca, renewed := newAuthority(t, "ca"), newAuthority(t, "renewed")
	files := ca.client(t)
	first, err := files.config("redis")
	if err != nil {
		t.Fatal(err)
	}
	copied := renewed.client(t)
	for path, from := range map[string]string{files.CA: copied.CA, files.Cert: copied.Cert, files.Key: copied.Key} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	second, err := files.config("redis")
	if err != nil {
		t.Fatal(err)
	}
	if first.RootCAs.Equal(second.RootCAs) || bytes.Equal(first.Certificates[0].Certificate[0], second.Certificates[0].Certificate[0]) {
		t.Error("the certificates are those of before")
	}
	other, _ := ca.issue(t, "other", &x509.Certificate{})
	if err := (TLSFiles{Cert: other, Key: files.Key}).Check(); err == nil {
		t.Error("a certificate and the key of another one are taken")
	}
}

// Whatever is wrong with certificates is named once, and the node is not ready.
func TestTLSRefused(t *testing.T) {
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	cert, key := ca.server(t)
	r, url := startTLS(t, ca, cert, key)
	elsewhere, elsewhereKey := ca.issue(t, "elsewhere", &x509.Certificate{DNSNames: []string{"redis.example"}})
	wrongName, wrongNameURL := startTLS(t, ca, elsewhere, elsewhereKey)
	old, oldKey := ca.issue(t, "old", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(-time.Hour)})
	expired, expiredURL := startTLS(t, ca, old, oldKey)
	good := ca.client(t)
	for name, tt := range map[string]struct {
		redis *redisServer
		url   string
		files TLSFiles
		text  string
	}{
		"unknown CA":            {r, url, stranger.client(t), "unknown authority"},
		"another name":          {wrongName, wrongNameURL, good, "127.0.0.1"},
		"expired":               {expired, expiredURL, good, "expired"},
		"no client certificate": {r, url, TLSFiles{CA: ca.path}, "asked for a client certificate"},
		"a stranger's":          {r, url, TLSFiles{CA: ca.path, Cert: stranger.client(t).Cert, Key: stranger.client(t).Key}, "asked for a client certificate"},
		"no TLS":                {r, "rediss://127.0.0.1:" + r.port, good, "as of a port without TLS"},
		"missing file":          {r, url, TLSFiles{CA: "/no/such/file"}, "/no/such/file"},
	} {
		t.Run(name, func(t *testing.T) {
			n := secured(t, tt.redis, tt.url, tt.files).open(t, "nodeAAAA", nil)
			n.Bus().Open("/")
			n.run(t)
			eventually(t, "attempts fail", func() error {
				if failures := testutil.ToFloat64(n.metrics.RedisFailures[metrics.RedisTLS]); failures < 2 {
					return fmt.Errorf("%v attempts failed for want of TLS; log %v", failures, n.log.all())
				}
				return nil
			})
			// A busy machine may let an attempt run out of time, which has another reason.
			reasons := slices.DeleteFunc(n.log.all(), func(line string) bool { return !strings.Contains(line, "reason=tls") })
			if len(reasons) != 1 || !strings.Contains(reasons[0], tt.text) {
				t.Errorf("not one line of the log has the reason tls and says %q: %q", tt.text, n.log.all())
			}
			eventually(t, "readiness says why", func() error {
				if err := n.Ready(); err == nil || !strings.Contains(err.Error(), tt.text) {
					return fmt.Errorf("it says %v, not %q", err, tt.text)
				}
				return nil
			})
		})
	}
}
