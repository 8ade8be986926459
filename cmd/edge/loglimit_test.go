package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

var logEpoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// logTime is a moment so many seconds after logEpoch.
func logTime(seconds float64) time.Time {
	return logEpoch.Add(time.Duration(seconds * float64(time.Second)))
}

// TestLogBudget: each message has so many lines per window, and what a window held back is known when it has ended.
func TestLogBudget(t *testing.T) {
	var b logBudget
	lost, other := logKey{slog.LevelWarn, "lost"}, logKey{slog.LevelWarn, "other"}
	for i := range 3 * logBurst {
		ok, ends, first := b.take(lost, logTime(float64(i)))
		if ok != (i < logBurst) || first != (i == logBurst) || !ends.Equal(logTime(logInterval.Seconds())) {
			t.Fatalf("line %d: %v, until %v, first held back %v", i, ok, ends, first)
		}
	}
	if ok, _, _ := b.take(other, logTime(30)); !ok {
		t.Error("another message had to wait for the first one's window")
	}
	if ok, _, _ := b.take(logKey{slog.LevelError, "lost"}, logTime(30)); !ok {
		t.Error("another level had to wait for the first one's window")
	}
	if held := b.settle(logTime(logInterval.Seconds() - 1)); held != nil {
		t.Errorf("before its end the window told %v", held)
	}
	if held := b.settle(logTime(logInterval.Seconds())); !slices.Equal(held, []suppression{{lost, 2 * logBurst}}) {
		t.Errorf("at its end the window told %v", held)
	}
	if ok, ends, _ := b.take(lost, logTime(70)); !ok || !ends.Equal(logTime(70+logInterval.Seconds())) {
		t.Errorf("the next window: %v until %v", ok, ends)
	}
	if held := b.settle(logTime(1000)); held != nil || len(b.windows) != 0 {
		t.Errorf("windows that held nothing back told %v, and %d are kept", held, len(b.windows))
	}
}

// TestLogBudgetIsBounded: however many texts there are, memory and lines are few.
func TestLogBudgetIsBounded(t *testing.T) {
	var b logBudget
	written := 0
	for i := range 100 * logMessages {
		if ok, _, _ := b.take(logKey{slog.LevelWarn, fmt.Sprint("text ", i)}, logTime(0)); ok {
			written++
		}
	}
	if len(b.windows) != logMessages+1 || written != logMessages+logBurst {
		t.Errorf("%d windows, %d lines", len(b.windows), written)
	}
	if held := b.settle(logTime(60)); !slices.Equal(held, []suppression{{logKey{slog.LevelWarn, otherMessages}, 99*logMessages - logBurst}}) {
		t.Errorf("held back: %v", held)
	}
}

// limitedLog is a log whose clock is the test's own.
type limitedLog struct {
	*limitedHandler
	out   bytes.Buffer
	calls []func()
}

func newLimitedLog(level slog.Level) *limitedLog {
	l := &limitedLog{}
	l.limitedHandler = newLimitedHandler(slog.NewJSONHandler(&l.out, &slog.HandlerOptions{Level: level}))
	l.limit.after = func(_ time.Duration, f func()) { l.calls = append(l.calls, f) }
	return l
}

func record(level slog.Level, message string, seconds float64) slog.Record {
	return slog.NewRecord(logTime(seconds), level, message, 0)
}

// lines takes what was written, as "level message" or, of suppressions, "level message: lines".
func (l *limitedLog) lines(t *testing.T) []string {
	t.Helper()
	var lines []string
	for text := range strings.Lines(l.out.String()) {
		var r struct {
			Level, Msg, Message, Peer string
			Lines                     int
		}
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Msg == "log lines suppressed":
			lines = append(lines, fmt.Sprintf("%s %s: %d", r.Level, r.Message, r.Lines))
			if r.Peer != "" {
				t.Errorf("the suppression has the attribute of one of the loggers: %s", text)
			}
		default:
			lines = append(lines, r.Level+" "+r.Msg)
		}
	}
	l.out.Reset()
	return lines
}

func handle(t *testing.T, h slog.Handler, r slog.Record) {
	t.Helper()
	if !h.Enabled(context.Background(), r.Level) {
		return
	}
	if err := h.Handle(context.Background(), r); err != nil {
		t.Fatal(err)
	}
}

// TestLimitedHandler: a flood is told with the next line of any kind, or when its window ends, once.
func TestLimitedHandler(t *testing.T) {
	l := newLimitedLog(slog.LevelInfo)
	trunk := l.WithAttrs([]slog.Attr{slog.String("peer", "x")})
	for range 25 {
		handle(t, trunk, record(slog.LevelWarn, "broken", 0))
		handle(t, l, record(slog.LevelWarn, "broken", 1)) // the same budget
		handle(t, l, record(slog.LevelDebug, "detail", 1))
	}
	if got := l.lines(t); len(got) != logBurst || got[0] != "WARN broken" {
		t.Errorf("of the flood was written: %q", got)
	}
	handle(t, l, record(slog.LevelInfo, "ready", 61))
	if got, want := l.lines(t), []string{"WARN broken: 40", "INFO ready"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if len(l.calls) != 1 {
		t.Fatalf("%d callbacks for one window", len(l.calls))
	}
	l.calls[0]()
	if got := l.lines(t); len(got) != 0 {
		t.Errorf("told twice: %q", got)
	}

	for range 15 {
		handle(t, l, record(slog.LevelError, "panic", 100))
	}
	l.lines(t)
	l.calls[1]()
	if got, want := l.lines(t), []string{"ERROR panic: 5"}; !slices.Equal(got, want) {
		t.Errorf("at the window's end: %q, want %q", got, want)
	}
}

// TestLimitedHandlerLeavesDebugAlone: who wants to see what clients do sees all of it.
func TestLimitedHandlerLeavesDebugAlone(t *testing.T) {
	l := newLimitedLog(slog.LevelDebug)
	for range 5 * logBurst {
		handle(t, l, record(slog.LevelDebug, "packet refused", 0))
	}
	if got := l.lines(t); len(got) != 5*logBurst {
		t.Errorf("%d lines", len(got))
	}
}

// TestLogFinishes: what was held back is told before the process ends.
func TestLogFinishes(t *testing.T) {
	var out bytes.Buffer
	log, finish := newLogger(&out, "info", "text")
	for range logBurst + 3 {
		log.Warn("broken", "peer", "x")
	}
	finish()
	finish()
	text := out.String()
	if n := strings.Count(text, "msg=broken"); n != logBurst {
		t.Errorf("%d lines:\n%s", n, text)
	}
	if n := strings.Count(text, `level=WARN msg="log lines suppressed" message=broken lines=3`); n != 1 {
		t.Errorf("told %d times what was held back:\n%s", n, text)
	}
}

// TestHTTPLog: a panic in a handler is an error of ours, whatever else net/http says is for debug.
func TestHTTPLog(t *testing.T) {
	for line, want := range map[string]string{
		"http: panic serving 127.0.0.1:1: boom\ngoroutine 1":                          `level=ERROR msg="HTTP handler panicked" listener=admin panic="http: panic serving 127.0.0.1:1: boom\ngoroutine 1"`,
		"http: Accept error: accept tcp: too many open files; retrying in 5ms":        `level=WARN msg="HTTP connections cannot be accepted" listener=admin error="http: Accept error: accept tcp: too many open files; retrying in 5ms"`,
		"http: response.WriteHeader on hijacked connection from main.(*a).f (a.go:1)": `level=DEBUG msg="HTTP server" listener=admin error="http: response.WriteHeader on hijacked connection from main.(*a).f (a.go:1)"`,
	} {
		var out bytes.Buffer
		log, _ := newLogger(&out, "debug", "text")
		httpLog(log, "admin").Print(line)
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q was logged as\n%swant %s", line, out.String(), want)
		}
	}
}
