package main

import (
	"bytes"
	"io"
	"log"
	"log/slog"
)

// newLogger writes to w as LOG_LEVEL and LOG_FORMAT say, and no message without end
// (limitedHandler). finish writes how often messages were held back until now; it is
// called when nothing more is logged.
func newLogger(w io.Writer, level logLevel, format logFormat) (logger *slog.Logger, finish func()) {
	opts := &slog.HandlerOptions{Level: slogLevel(level)}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	limited := newLimitedHandler(h)
	return slog.New(limited), limited.limit.finish
}

func slogLevel(l logLevel) slog.Level {
	switch l {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// httpLog is the ErrorLog of the http.Server of a listener. net/http has one text for
// everything: what single clients do wrong is for debug, a panic of ours is not.
func httpLog(l *slog.Logger, listener string) *log.Logger {
	return log.New(httpLogWriter{l, listener}, "", 0)
}

type httpLogWriter struct {
	log      *slog.Logger
	listener string
}

// Write logs one line of net/http.
func (w httpLogWriter) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	switch {
	case bytes.HasPrefix(line, []byte("http: panic serving ")):
		w.log.Error("HTTP handler panicked", "listener", w.listener, "panic", text)
	case bytes.HasPrefix(line, []byte("http: Accept error: ")):
		w.log.Warn("HTTP connections cannot be accepted", "listener", w.listener, "error", text)
	default:
		w.log.Debug("HTTP server", "listener", w.listener, "error", text)
	}
	return len(line), nil
}
