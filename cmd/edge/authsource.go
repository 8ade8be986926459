package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/stellara/edge/metrics"
)

// maxKeyBytes bounds what is read of a file or an answer with keys.
const maxKeyBytes = 1 << 20

// newKeyring makes the ring of what the configuration names. Its files are read;
// what is elsewhere is loaded by run.
func newKeyring(cfg *Config, m *metrics.Metrics, log *slog.Logger, now func() time.Time) (*keyring, error) {
	k := &keyring{metrics: m, log: log, now: now, wanted: make(chan struct{}, 1)}
	permitted := cfg.algorithms()
	if cfg.AuthJWTSecret != "" {
		key, err := newVerifyKey("", []byte(cfg.AuthJWTSecret), "", permitted)
		if err != nil {
			return nil, fmt.Errorf("AUTH_JWT_SECRET: %w", err)
		}
		k.fixed = []verifyKey{key}
	}
	type reader func([]byte, []algorithm) ([]verifyKey, error)
	fromFile := func(variable, path string, read reader) {
		f := &watchedFile{path: path}
		k.sources = append(k.sources, &keySource{variable: variable, changed: f.changed, load: func(context.Context) ([]verifyKey, error) {
			return parsed(f.read, read, permitted)
		}})
	}
	if cfg.AuthJWTSecretFile != "" {
		fromFile("AUTH_JWT_SECRET_FILE", cfg.AuthJWTSecretFile, readSecret)
	}
	if cfg.AuthJWTKeyFile != "" {
		fromFile("AUTH_JWT_KEY_FILE", cfg.AuthJWTKeyFile, readPEM)
	}
	if cfg.AuthJWKS.remote() {
		client := newKeyClient()
		k.sources = append(k.sources, &keySource{variable: "AUTH_JWKS", load: func(ctx context.Context) ([]verifyKey, error) {
			return parsed(func() ([]byte, error) { return fetchKeys(ctx, client, string(cfg.AuthJWKS)) }, readJWKS, permitted)
		}})
	} else if cfg.AuthJWKS != "" {
		fromFile("AUTH_JWKS", string(cfg.AuthJWKS), readJWKS)
	}
	if err := k.loadFiles(); err != nil {
		return nil, err
	}
	return k, nil
}

func parsed(content func() ([]byte, error), read func([]byte, []algorithm) ([]verifyKey, error), permitted []algorithm) ([]verifyKey, error) {
	b, err := content()
	if err != nil {
		return nil, err
	}
	return read(b, permitted)
}

// watchedFile is a file that is read again when it has changed: by its time and its
// size, behind symbolic links, which is how Kubernetes exchanges mounted secrets.
type watchedFile struct {
	path string
	time time.Time
	size int64
}

// changed reports whether the file is another one than was read. That it cannot be
// found is for read to say.
func (f *watchedFile) changed() bool {
	info, err := os.Stat(f.path)
	return err != nil || !info.ModTime().Equal(f.time) || info.Size() != f.size
}

func (f *watchedFile) read() ([]byte, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	b, err := readBounded(file)
	if err == nil {
		f.time, f.size = info.ModTime(), info.Size()
	}
	return b, err
}

func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxKeyBytes+1))
	if err == nil && len(b) > maxKeyBytes {
		err = fmt.Errorf("is larger than %d bytes", maxKeyBytes)
	}
	return b, err
}

// newKeyClient fetches keys. It follows no redirect away from TLS: whoever answers
// there could make tokens.
func newKeyClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: loadTime, IdleConnTimeout: time.Minute, MaxIdleConns: 1, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(to *http.Request, via []*http.Request) error {
			if via[0].URL.Scheme == "https" && to.URL.Scheme != "https" {
				return errors.New("it is redirected from https to " + to.URL.Scheme)
			}
			if len(via) > 3 {
				return errors.New("it is redirected too often")
			}
			return nil
		},
	}
}

func fetchKeys(ctx context.Context, client *http.Client, from string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(r)
	if with := (*url.Error)(nil); errors.As(err, &with) {
		return nil, with.Err // the address is not for the log: it may hold a password, or a key in its query
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}
	return readBounded(resp.Body)
}

// keySetPlace is AUTH_JWKS: a path, or an http or https URL.
type keySetPlace string

// UnmarshalText refuses a URL of another kind. It may hold a password, and so may the
// text of url.Parse's error: neither is repeated.
func (p *keySetPlace) UnmarshalText(b []byte) error {
	if *p = keySetPlace(b); !strings.Contains(string(b), "://") {
		return nil
	}
	u, err := url.Parse(string(b))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("is neither the path of a file nor a URL that begins with https:// or http://")
	}
	return nil
}

// remote reports whether it is a URL.
func (p keySetPlace) remote() bool { return strings.Contains(string(p), "://") }

// exposed reports whether what comes from there can be changed on its way.
func (p keySetPlace) exposed() bool {
	u, err := url.Parse(string(p))
	return err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()+":0")
}
