//go:build linux

package main

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const someInfo = "# Stats\r\ntotal_net_input_bytes:1234\r\ntotal_net_output_bytes:99999999999\r\nweird:x\r\n" +
	"# Commandstats\r\ncmdstat_evalsha:calls=24,usec=1200,usec_per_call=50.00,rejected_calls=0,failed_calls=0\r\n" +
	"cmdstat_client|setinfo:calls=2,usec=3,usec_per_call=1.50,rejected_calls=0,failed_calls=0\r\n" +
	"cmdstat_info:calls=5,usec=3,usec_per_call=1.50\r\ncmdstat_broken:calls=x,usec=1\r\n"

func TestInfoIsRead(t *testing.T) {
	if got, want := commandCalls(someInfo), (map[string]int64{"evalsha": 24, "client|setinfo": 2}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if n, err := infoNumber(someInfo, "total_net_output_bytes"); n != 99_999_999_999 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, name := range []string{"total_net", "weird"} {
		if _, err := infoNumber(someInfo, name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not name %s", err, name)
		}
	}
}

func TestInfoIsAskedFor(t *testing.T) {
	for name, tc := range map[string]struct{ answer, want, err string }{
		"text":     {"$5\r\nhello\r\n", "hello", ""},
		"an error": {"-NOAUTH Authentication required.\r\n", "", "NOAUTH"},
		"half":     {"$50\r\nhello", "", "unexpected EOF"},
		"nothing":  {"", "", "EOF"},
		"null":     {"$-1\r\n", "", "$-1"},
	} {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer l.Close()
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			buf := make([]byte, 100)
			if _, err := c.Read(buf); err == nil {
				_, _ = io.WriteString(c, tc.answer)
			}
		}()
		got, err := redisInfo(context.Background(), "redis://"+l.Addr().String())
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %q, %v; want %q, %q", name, got, err, tc.want, tc.err)
		}
	}
}

func TestMetricsAreRead(t *testing.T) {
	const text = "# TYPE x histogram\nx_count{op=\"hold\"} 7\nx_count{op=\"heartbeat\"} 2.5e+02\nx_count 3\n" +
		"x_count{op=\"a\",kind=\"b\"} 1\nxx_count{op=\"no\"} 1\nx_count{op=\"bad\"} many\n"
	if got, want := labelled(text, "x_count", "op"), (map[string]float64{"hold": 7, "heartbeat": 250}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, text)
	}))
	defer s.Close()
	if got, err := scrape(context.Background(), strings.TrimPrefix(s.URL, "http://")); got != text || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := scrape(context.Background(), strings.TrimPrefix(s.URL, "http://")+"/x"); err == nil {
		t.Error("a status of 404 is no error")
	}
}

func TestTrafficIsPerSecond(t *testing.T) {
	from := counts{commands: map[string]int64{"evalsha": 10}, input: 1000, output: 500, operations: map[string]int64{"heartbeat": 5, "hold": 9}}
	to := counts{commands: map[string]int64{"evalsha": 30, "get": 10}, input: 3000, output: 600, operations: map[string]int64{"heartbeat": 9, "hold": 9}}
	to.at.at, to.at.cpu.Redis = 10e9, 0.5
	got := trafficBetween(from, to)
	if got.Seconds != 10 || !maps.Equal(got.Commands, map[string]float64{"evalsha": 2, "get": 1}) ||
		!maps.Equal(got.Operations, map[string]float64{"heartbeat": 0.4, "hold": 0}) ||
		got.InputBytes != 200 || got.OutputBytes != 10 || got.CPU.Redis != 0.05 {
		t.Errorf("%+v", got)
	}
}

func TestHeartbeatFlags(t *testing.T) {
	c := parse(t, "-scenario", "heartbeat")
	parts := c.parts()
	if len(parts) != 2 || parts[0].cfg.conns != 1000 || parts[0].cfg.rooms != 1000 || parts[1].cfg.conns != 15_000 || parts[1].cfg.rooms != 15_000 ||
		c.nodes != 1 || c.conns != 15_000 {
		t.Errorf("%+v", parts)
	}
	c = parse(t, "-scenario", "heartbeat", "-sizes", "10, 55", "-members", "10")
	if parts = c.parts(); parts[0].cfg.rooms != 1 || parts[1].cfg.rooms != 6 {
		t.Errorf("%+v", parts)
	}
	for want, args := range map[string][]string{
		"-sizes":   {"-sizes", "10"},
		`"x"`:      {"-sizes", "x,y"},
		"10,10":    {"-sizes", "10,10"},
		"-members": {"-members", "2000"},
		"-system":  {"-system", "node"},
		"-target":  {"-target", "127.0.0.1:1"},
	} {
		if _, err := parseFlags(append([]string{"-scenario", "heartbeat"}, args...), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v does not name %s", args, err, want)
		}
	}
	c = parse(t, "-system", "both")
	if parts = c.parts(); len(parts) != 2 || parts[0].system != systemNode || parts[1].system != systemEdge {
		t.Errorf("%+v", parts)
	}
}
