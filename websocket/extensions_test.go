package websocket

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

const agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

func TestAnswerDeflate(t *testing.T) {
	for _, c := range []struct {
		offers string // headers separated by |
		want   string // "400" for an error
	}{
		{"", ""},
		{" , ", ""},
		{"permessage-deflate", agreed},
		{"Permessage-Deflate", agreed},
		{"permessage-deflate; client_max_window_bits", agreed}, // browsers
		{"permessage-deflate;client_max_window_bits=10", agreed},
		{"permessage-deflate ; client_max_window_bits = \"15\" ", agreed},
		{`permessage-deflate; client_max_window_bits="1\5"`, agreed},
		{"permessage-deflate; server_no_context_takeover; client_no_context_takeover", agreed},
		{"permessage-deflate; Server_No_Context_Takeover", agreed},
		{"permessage-deflate; server_max_window_bits=15", agreed + "; server_max_window_bits=15"},
		{`permessage-deflate; server_max_window_bits="15"`, agreed + "; server_max_window_bits=15"},
		// Declined.
		{"permessage-deflate; server_max_window_bits=14", ""},
		{"permessage-deflate; server_max_window_bits=8", ""},
		{"permessage-deflate; server_max_window_bits", ""},
		{"permessage-deflate; server_max_window_bits=16", ""},
		{"permessage-deflate; server_max_window_bits=015", ""},
		{"permessage-deflate; client_max_window_bits=7", ""},
		{"permessage-deflate; client_max_window_bits=16", ""},
		{"permessage-deflate; client_max_window_bits=08", ""},
		{"permessage-deflate; client_max_window_bits=+9", ""},
		{"permessage-deflate; client_max_window_bits=x", ""},
		{"permessage-deflate; server_no_context_takeover=1", ""},
		{"permessage-deflate; client_no_context_takeover=true", ""},
		{"permessage-deflate; unknown", ""},
		{"permessage-deflate; mux=1", ""},
		{"permessage-deflate; client_no_context_takeover; client_no_context_takeover", ""},
		{"permessage-deflate; client_max_window_bits; client_max_window_bits=12", ""},
		{"x-webkit-deflate-frame", ""},
		{"permessage-bzip2; level=9", ""},
		// The next offer.
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate", agreed},
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate; client_max_window_bits", agreed},
		{"permessage-deflate; server_max_window_bits=15, permessage-deflate", agreed + "; server_max_window_bits=15"},
		{"permessage-deflate; unknown,, ,permessage-deflate,", agreed},
		{"foo; a; a=\"b\", permessage-deflate", agreed},
		{"foo|permessage-deflate", agreed},
		{"permessage-deflate; server_max_window_bits=9|permessage-deflate; server_max_window_bits=15", agreed + "; server_max_window_bits=15"},
		// Malformed, also behind an offer that can be accepted.
		{"permessage-deflate;", "400"},
		{"permessage-deflate; ;", "400"},
		{"; server_max_window_bits", "400"},
		{"permessage deflate", "400"},
		{"permessage-deflate; client_max_window_bits=", "400"},
		{"permessage-deflate; client_max_window_bits=\"15", "400"},
		{"permessage-deflate; client_max_window_bits=\"15\\", "400"},
		{"permessage-deflate; client_max_window_bits=\"\"", "400"},
		{"permessage-deflate; client_max_window_bits=\"1 5\"", "400"},
		{"permessage-deflate; client_max_window_bits=15 15", "400"},
		{"permessage-deflate; client_max_window_bits=\"15\"x", "400"},
		{"permessage-deflate, =", "400"},
		{"permessage-deflate|\"permessage-deflate\"", "400"},
	} {
		got, err := AnswerDeflate(strings.Split(c.offers, "|"))
		var he *HandshakeError
		if err != nil {
			if got != "" || !errors.As(err, &he) || he.Status != http.StatusBadRequest || !strings.Contains(err.Error(), "Sec-WebSocket-Extensions") {
				t.Errorf("%q: %q and %v", c.offers, got, err)
			}
			got = "400"
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.offers, got, c.want)
		}
	}
	if got, err := AnswerDeflate(nil); got != "" || err != nil {
		t.Errorf("no header: %q, %v", got, err)
	}
}

// TestExtensionsAnswered: the answer has what was agreed to, and nothing that an
// application adds.
func TestExtensionsAnswered(t *testing.T) {
	extra := http.Header{"Sec-Websocket-Extensions": {"permessage-bzip2"}}
	with := string(AppendSwitchingProtocols(nil, Upgrade{Key: rfcKey, Extensions: agreed}, extra))
	if !strings.Contains(with, "\r\nSec-WebSocket-Extensions: "+agreed+"\r\n") || strings.Contains(with, "bzip2") {
		t.Errorf("%q", with)
	}
	if without := string(AppendSwitchingProtocols(nil, Upgrade{Key: rfcKey}, extra)); strings.Contains(without, "Extensions") {
		t.Errorf("%q", without)
	}
}

// FuzzExtensions: what an offer is answered can be read as an offer, and is
// accepted, and all that is read can be written and read again.
func FuzzExtensions(f *testing.F) {
	f.Add("permessage-deflate; client_max_window_bits")
	f.Add(`foo; bar="b\az", permessage-deflate; server_max_window_bits="15"`)
	f.Add("permessage-deflate; server_max_window_bits=10, permessage-deflate")
	f.Add(`a;b="`)
	f.Fuzz(func(t *testing.T, value string) {
		list, ok := parseExtensions(value)
		answer, err := AnswerDeflate([]string{value})
		if ok != (err == nil) {
			t.Fatalf("%q: parsed %v, answered %v", value, ok, err)
		}
		if !ok {
			return
		}
		if answer != "" {
			if again, err := AnswerDeflate([]string{answer}); err != nil || again != answer {
				t.Fatalf("%q: the answer %q is answered %q, %v", value, answer, again, err)
			}
		}
		again, ok := parseExtensions(written(list))
		if !ok || written(again) != written(list) {
			t.Fatalf("%q: %q is read as %q", value, written(list), written(again))
		}
	})
}

func written(list []extension) string {
	var out []string
	for _, e := range list {
		parts := []string{e.name}
		for _, p := range e.params {
			if p.valued {
				p.name += "=" + p.value
			}
			parts = append(parts, p.name)
		}
		out = append(out, strings.Join(parts, ";"))
	}
	return strings.Join(out, ",")
}
