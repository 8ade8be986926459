package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secretFile writes a file of its own and returns its path.
func secretFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretsInFiles(t *testing.T) {
	cfg, err := LoadConfig(map[string]string{
		"REDIS_URL_FILE":       secretFile(t, "redis://u:hunter2@redis.example:6379/3\n"),
		"AUTH_JWT_SECRET_FILE": secretFile(t, testSecret), // read by who verifies tokens, again and again
		"PEER_SECRET_FILE":     secretFile(t, peerSecret+"\r\n"),
		"ADMIN_TOKEN_FILE":     secretFile(t, " with spaces \n"),
		"LOG_LEVEL_FILE":       "/no/such/file", // no secret: means nothing
		"PEER_SECRET":          "",              // empty is not set
	})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.RedisURL != "redis://u:hunter2@redis.example:6379/3" || cfg.AuthJWTSecretFile == "" || cfg.AuthJWTSecret != "" || cfg.PeerSecret != peerSecret || cfg.AdminToken != " with spaces " {
		t.Errorf("read %q, %q, %q, %q", string(cfg.RedisURL), string(cfg.AuthJWTSecret), string(cfg.PeerSecret), string(cfg.AdminToken))
	}
	if cfg.ListenAddr != ":3000" || cfg.Auth != authJWT {
		t.Errorf("LISTEN_ADDR is %s and AUTH %s, as if REDIS_URL were not set", cfg.ListenAddr, cfg.Auth)
	}
}

func TestSecretFilesRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		variable string
		environ  map[string]string
		contains string
	}{
		"missing":   {"REDIS_URL_FILE", map[string]string{"REDIS_URL_FILE": "/no/such/file", "LISTEN_ADDR": ":3000"}, "/no/such/file: no such file"},
		"directory": {"ADMIN_TOKEN_FILE", map[string]string{"ADMIN_TOKEN_FILE": t.TempDir()}, "is a directory"},
		"empty":     {"ADMIN_TOKEN_FILE", map[string]string{"ADMIN_TOKEN_FILE": secretFile(t, "\n")}, "is empty"},
		"lines":     {"PEER_SECRET_FILE", map[string]string{"PEER_SECRET_FILE": secretFile(t, "correct horse\nbattery staple\n")}, "is not one line of text"},
		"large":     {"PEER_SECRET_FILE", map[string]string{"PEER_SECRET_FILE": secretFile(t, strings.Repeat("s", maxSecretFile+1))}, "more than 65536 bytes"},
		"both":      {"PEER_SECRET_FILE", map[string]string{"PEER_SECRET": testSecret, "PEER_SECRET_FILE": secretFile(t, testSecret)}, "PEER_SECRET is set, too"},
		"unsound":   {"PEER_SECRET", map[string]string{"PEER_SECRET_FILE": secretFile(t, "correct horse")}, "13 bytes; at least 32"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadConfig(tt.environ)
			if err == nil {
				t.Fatal("accepted")
			}
			if text := err.Error(); !strings.HasPrefix(text, tt.variable+": ") || !strings.Contains(text, tt.contains) || strings.Contains(text, "\n") {
				t.Errorf("error %q is not one line that names %s and says %q", text, tt.variable, tt.contains)
			}
			for _, content := range []string{"correct horse", testSecret} {
				if strings.Contains(err.Error(), content) {
					t.Errorf("the error repeats the secret %q", content)
				}
			}
		})
	}
}

// Every secret can be in a file, and where its path belongs is in -help and in the document.
func TestSecretFilesAreDocumented(t *testing.T) {
	var help bytes.Buffer
	printHelp(&help)
	document, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	names := secretNames()
	if len(names) < 4 {
		t.Fatalf("only %v are secrets", names)
	}
	for _, name := range names {
		if !strings.Contains(help.String(), name+fileSuffix) {
			t.Errorf("-help does not name %s%s", name, fileSuffix)
		}
		if !bytes.Contains(document, []byte("`"+name+fileSuffix+"`")) {
			t.Errorf("docs/operations.md does not name %s%s", name, fileSuffix)
		}
	}
}
