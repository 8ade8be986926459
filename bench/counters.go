//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// askTimeout is how long Redis or a node may take to tell its counters.
const askTimeout = 10 * time.Second

// redisInfo asks for the sections of INFO that count commands and bytes, and that about memory, over a connection of its own
// that sends nothing else, so that the question is the only thing it adds.
func redisInfo(ctx context.Context, redisURL string) (string, error) {
	u, err := url.Parse(redisURL)
	if err != nil {
		return "", fmt.Errorf("redis INFO: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return "", fmt.Errorf("redis INFO: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := io.WriteString(conn, "INFO memory stats commandstats\r\n"); err != nil {
		return "", fmt.Errorf("redis INFO: %w", err)
	}
	in := bufio.NewReader(conn)
	head, err := in.ReadString('\n') // of a bulk string: $<bytes>
	if err != nil {
		return "", fmt.Errorf("redis INFO: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "$")))
	if err != nil || head[0] != '$' || n < 0 {
		return "", fmt.Errorf("redis INFO: answer begins with %q", head)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(in, text); err != nil {
		return "", fmt.Errorf("redis INFO: %w", err)
	}
	return string(text), nil
}

// commandCalls reads how often each command was called out of INFO commandstats, those that scripts
// call included. INFO itself, the question, is left out.
func commandCalls(info string) map[string]int64 {
	calls := map[string]int64{}
	for line := range strings.Lines(info) {
		rest, ok := strings.CutPrefix(line, "cmdstat_")
		if !ok {
			continue
		}
		name, fields, ok := strings.Cut(strings.TrimSpace(rest), ":calls=")
		if !ok || name == "info" {
			continue
		}
		text, _, _ := strings.Cut(fields, ",")
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			calls[name] = n
		}
	}
	return calls
}

// infoNumber reads one number out of INFO.
func infoNumber(info, name string) (int64, error) {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("redis INFO: %s is %q", name, value)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("redis INFO: no %s", name)
}

// scrape returns a node's metrics as text.
func scrape(ctx context.Context, admin string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return "", fmt.Errorf("metrics of %s: %w", admin, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("metrics of %s: %w", admin, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("metrics of %s: status %d, %w", admin, resp.StatusCode, err)
	}
	return string(text), nil
}

// labelled reads the values of a metric by its only label out of the text of /metrics.
func labelled(text, metric, label string) map[string]float64 {
	values := map[string]float64{}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), metric+"{"+label+`="`)
		if !ok {
			continue
		}
		name, value, ok := strings.Cut(rest, `"} `)
		if !ok || strings.Contains(name, `"`) {
			continue // it has more labels
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = v
		}
	}
	return values
}

// metricNumber returns the value of a metric without labels, 0 if there is none.
func metricNumber(text, metric string) float64 {
	v, err := strconv.ParseFloat(metricValue(text, metric), 64)
	if err != nil {
		return 0
	}
	return v
}

// metricValue returns the value of a metric without labels, "" if there is none.
func metricValue(text, metric string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), metric+" "); ok {
			return value
		}
	}
	return ""
}
