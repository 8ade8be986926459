package main

import (
	"slices"
	"strings"
	"testing"
)

func TestRedisName(t *testing.T) {
	for url, want := range map[string]struct {
		name    string
		servers []string
	}{
		"":                                {"embedded", nil},
		"redis://localhost":               {"redis://localhost:6379", []string{"localhost:6379"}},
		"rediss://u:hunter2@redis:6380/2": {"rediss://redis:6380/2", []string{"redis:6380"}},
		"redis-sentinel://u:hunter2@a,b:1/main?sentinel_password=hunter2": {
			"redis-sentinel://a:26379,b:1/main", []string{"a:26379", "b:1"}},
	} {
		c := &Config{RedisURL: secret(url)}
		if name := c.redisName(); name != want.name {
			t.Errorf("the name of %q is %q, want %q", url, name, want.name)
		}
		if servers := c.redisServers(); !slices.Equal(servers, want.servers) {
			t.Errorf("the servers of %q are %q, want %q", url, servers, want.servers)
		}
	}
}

func TestRedisURLs(t *testing.T) {
	for _, url := range []string{
		"redis://redis.example", "redis://:hunter2@redis.example:6379/15", "rediss://u:hunter2@[2001:db8::7]:6380",
		"redis-sentinel://a,b,c/main", "rediss-sentinel://u:hunter2@a:26379,b:26380/main/1?sentinel_user=s&sentinel_password=hunter2",
	} {
		if _, err := LoadConfig(production("REDIS_URL", url)); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for url, contains := range map[string]string{
		"redis://u:hunter2@a:6379,b:6379":               "several servers",
		"redis://u:hunter2@a:6379?addr=b:6379":          "several servers",
		"redis-sentinel://u:hunter2@a,b":                "must name the master",
		"rediss://u:hunter2@a?skip_verify=true":         "parameters that are not known",
		"redis-cluster://u:hunter2@a":                   "must begin with",
		"redis-sentinel://u:hunter2@a/main/first":       "number of a database",
		"redis-sentinel://u:hunter/2@a/main/1":          "percent-encoded",
		"redis-sentinel://a/main?sentinel_pass=hunter2": "parameters that are not known",
	} {
		_, err := LoadConfig(production("REDIS_URL", url))
		if err == nil || !strings.HasPrefix(err.Error(), "REDIS_URL: ") || !strings.Contains(err.Error(), contains) || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v, which is not an error of REDIS_URL that says %q and no password", url, err, contains)
		}
	}
}

// Files for TLS without TLS would mean a connection that is not what somebody thinks it is.
func TestRedisTLSFiles(t *testing.T) {
	broken := secretFile(t, "no PEM")
	for _, tt := range []struct {
		environ  map[string]string
		variable string
		contains string
	}{
		{map[string]string{"REDIS_TLS_CA": broken, "AUTH": "none"}, "REDIS_TLS_CA", "means nothing"},
		{production("REDIS_TLS_CERT", broken, "REDIS_TLS_KEY", broken), "REDIS_TLS_CERT", "means nothing"},
		{production("REDIS_URL", "rediss://a", "REDIS_TLS_CA", broken), "REDIS_TLS_CA", "no certificate in PEM form"},
		{production("REDIS_URL", "rediss://a", "REDIS_TLS_KEY", broken), "REDIS_TLS_CERT", "is required with REDIS_TLS_KEY"},
		{production("REDIS_URL", "rediss-sentinel://a/main", "REDIS_TLS_CERT", broken, "REDIS_TLS_KEY", broken), "REDIS_TLS_CERT", "PEM"},
	} {
		if _, err := LoadConfig(tt.environ); err == nil || !strings.HasPrefix(err.Error(), tt.variable+": ") || !strings.Contains(err.Error(), tt.contains) {
			t.Errorf("%v: %v, which does not name %s and say %q", tt.environ, err, tt.variable, tt.contains)
		}
	}
}
