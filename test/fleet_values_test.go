package test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// tagged writes binary values and dates as fixtures/fleet-peer.mjs reads them.
func tagged(v any) any {
	switch v := v.(type) {
	case []byte:
		return map[string]any{"$binary": hex.EncodeToString(v)}
	case time.Time:
		return map[string]any{"$date": v.UnixMilli()}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = tagged(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = tagged(v[k])
		}
		return out
	}
	return v
}

// received is v as a client that got it reports it: through JSON, dates as text.
func received(v any) any {
	switch v := v.(type) {
	case time.Time:
		return v.UTC().Format("2006-01-02T15:04:05.000Z")
	case []byte:
		return tagged(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = received(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = received(v[k])
		}
		return out
	case int:
		return float64(v)
	}
	return v
}

// as decodes a result.
func as[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.Result, &v); err != nil {
		t.Fatalf("result %s: %v", r.Result, err)
	}
	return v
}

// good is as for an operation that must not fail.
func good[T any](t *testing.T, what string, r reply) T {
	t.Helper()
	if r.Error != "" {
		t.Fatalf("%s: %s (with %s)", what, r.Error, r.Result)
	}
	return as[T](t, r)
}

// texts are room names as text.
func texts(rooms []any) []string {
	out := make([]string, len(rooms))
	for i := range rooms {
		out[i] = fmt.Sprint(rooms[i])
	}
	return out
}

// sameSet compares lists whose order says nothing.
func sameSet(a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	count := make(map[string]int)
	for i := range a {
		count[canonical(a[i])]++
		count[canonical(b[i])]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// canonical is a value as JSON with sorted keys.
func canonical(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// sameRoom compares names one of which may be a number that went through JSON.
func sameRoom(a, b string) bool {
	var x, y float64
	if json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil {
		return x == y
	}
	return a == b
}
