package state

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for url, want := range map[string]Address{
		"redis://redis":          {servers: []string{"redis:6379"}},
		"redis://redis:1/":       {servers: []string{"redis:1"}},
		"redis://:p%40ss@redis":  {servers: []string{"redis:6379"}, password: "p@ss"},
		"redis://u:p@ss@redis/3": {servers: []string{"redis:6379"}, user: "u", password: "p@ss", db: 3},
		"rediss://u@[::1]":       {secure: true, servers: []string{"[::1]:6379"}, user: "u"},
		"redis-sentinel://u:p@a,b:1,[::1],[::2]:2/my%20master/4?sentinel_user=s&sentinel_password=p%26q": {
			servers: []string{"a:26379", "b:1", "[::1]:26379", "[::2]:2"}, master: "my master", user: "u", password: "p", db: 4,
			sentinelUser: "s", sentinelPassword: "p&q",
		},
		"rediss-sentinel://a/main": {secure: true, servers: []string{"a:26379"}, master: "main"},
	} {
		got, err := ParseURL(url)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", url, got, err)
		}
		if again, err := ParseURL(got.String()); err != nil || !reflect.DeepEqual(again.servers, got.servers) || again.master != got.master || again.db != got.db || again.secure != got.secure {
			t.Errorf("%s is printed as %s, which is something else: %v", url, got, err)
		}
		for _, secret := range []string{got.password, got.sentinelPassword} {
			if text := fmt.Sprintf("%v %+v %#v", got, got, got); secret != "" && strings.Contains(text, secret) {
				t.Errorf("%s shows the password %s", text, secret)
			}
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for _, url := range []string{
		"", "redis", "redis:", "localhost:6379", "http://a", "unix:///run/redis.sock", "redis://", "redis://:6379", "redis://a:b", "redis://a:0", "redis://a:70000",
		"redis://a:1:2", "redis://::1", "redis://[::1", "redis://a b", "redis://u:%zz@a", "redis://a/b", "redis://a/-1", "redis://a/1/2", "redis://a#1", "redis://a?db=1",
		"redis://a,b", "redis://a?addr=b", "redis://a?skip_verify", "redis://a/?%zz", "redis-sentinel://a", "redis-sentinel://a/", "redis-sentinel://a,,b/main",
		"redis-sentinel:///main", "redis-sentinel://a/main/x", "redis-sentinel://a/main?master_set=x", "redis-sentinel://a/main?sentinel_user=a&sentinel_user=b",
	} {
		if a, err := ParseURL(url); err == nil {
			t.Errorf("%q is accepted as %s", url, a)
		}
	}
}
