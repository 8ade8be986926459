package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestWarnOfAuth: what is risky is said at the start, and nothing else is.
func TestWarnOfAuth(t *testing.T) {
	public := func(more ...string) map[string]string {
		m := map[string]string{"AUTH": "none", "LISTEN_ADDR": ":3000", "AUTH_NONE_PUBLIC": "true"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for name, tt := range map[string]struct {
		environ map[string]string
		want    string
	}{
		"none on loopback":        {map[string]string{}, ""},
		"none for all":            {public(), "ORIGINS is empty"},
		"none for listed origins": {public("ORIGINS", "https://app.example.com"), ""},
		"none with a secret":      {map[string]string{"AUTH_JWT_SECRET": testSecret}, "not used"},
		"none with a set":         {map[string]string{"AUTH_JWKS": "https://id.example/keys"}, "not used"},
		"jwt":                     {production(), ""},
		"jwt in the query":        {production("AUTH_TOKEN_FROM", "auth,query"), "logs of proxies"},
		"keys over http":          {production("AUTH_JWKS", "http://id.example/keys"), "begins with http"},
		"keys over https":         {production("AUTH_JWKS", "https://id.example/keys"), ""},
		"keys on this machine":    {production("AUTH_JWKS", "http://127.0.0.1:8080/keys"), ""},
		"keys in a file":          {production("AUTH_JWKS", "/run/keys.json"), ""},
	} {
		cfg, err := LoadConfig(tt.environ)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cfg.warnAuth(slog.New(slog.NewTextHandler(&out, nil)))
		if got := out.String(); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
