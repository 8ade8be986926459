package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// v2 is a binary header.
func v2(command, family byte, rest string) string {
	b := append([]byte(proxyV2Start), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rest)))
	return string(append(b, rest...))
}

const (
	addresses4 = "\xcb\x00\x71\x07\x0a\x00\x00\x01\xdb\xba\x01\xbb" // 203.0.113.7:56250 to 10.0.0.1:443
	tlv        = "\x03\x00\x04\x01\x02\x03\x04"
)

var addresses6 = string(netip.MustParseAddr("2001:db8::7").AsSlice()) + string(netip.MustParseAddr("2001:db8::1").AsSlice()) + "\xdb\xba\x01\xbb"

func TestProxyHeader(t *testing.T) {
	none := netip.AddrPort{}
	for _, tc := range []struct {
		name, header string
		client       netip.AddrPort
		says         string // of the error
	}{
		{"v1, IPv4", "PROXY TCP4 203.0.113.7 10.0.0.1 56250 443\r\n", netip.MustParseAddrPort("203.0.113.7:56250"), ""},
		{"v1, IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 56250 443\r\n", netip.MustParseAddrPort("[2001:db8::7]:56250"), ""},
		{"v1, IPv4 in IPv6", "PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", netip.MustParseAddrPort("203.0.113.7:1"), ""},
		{"v1, unknown", "PROXY UNKNOWN\r\n", none, ""},
		{"v1, unknown with addresses", "PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n", none, ""},
		{"v1, another family", "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", none, "not TCP4 or TCP6"},
		{"v1, too little", "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", none, "two addresses, two ports"},
		{"v1, two spaces", "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", none, "two addresses, two ports"},
		{"v1, family and address differ", "PROXY TCP4 ::1 ::1 1 2\r\n", none, `address "::1"`},
		{"v1, no address", "PROXY TCP4 1.2.3.4 5.6.7.256 1 2\r\n", none, `address "5.6.7.256"`},
		{"v1, a zone", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", none, "address"},
		{"v1, leading zero", "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", none, `port "01"`},
		{"v1, port too large", "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", none, `port "65536"`},
		{"v1, without an end", "PROXY TCP4 " + strings.Repeat("1", 200), none, "within 107 bytes"},
		{"v2, IPv4", v2(0x21, 0x11, addresses4), netip.MustParseAddrPort("203.0.113.7:56250"), ""},
		{"v2, IPv4 with TLVs", v2(0x21, 0x11, addresses4+tlv), netip.MustParseAddrPort("203.0.113.7:56250"), ""},
		{"v2, IPv6", v2(0x21, 0x21, addresses6+tlv), netip.MustParseAddrPort("[2001:db8::7]:56250"), ""},
		{"v2, local", v2(0x20, 0x00, ""), none, ""},
		{"v2, local with addresses", v2(0x20, 0x11, addresses4), none, ""},
		{"v2, unspecified", v2(0x21, 0x00, tlv), none, ""},
		{"v2, Unix", v2(0x21, 0x31, strings.Repeat("\x00", 216)), none, ""},
		{"v2, UDP", v2(0x21, 0x12, addresses4), none, "family and protocol 0x12"},
		{"v2, too short", v2(0x21, 0x11, addresses4[:11]), none, "11 bytes of addresses, not 12"},
		{"v2, another version", v2(0x11, 0x11, addresses4), none, "version and command 0x11"},
		{"v2, another command", v2(0x22, 0x11, addresses4), none, "version and command 0x22"},
		{"v2, too long", v2(0x21, 0x11, addresses4+strings.Repeat("x", proxyV2Longest)), none, "more than 2048"},
		{"none", "GET / HTTP/1.1\r\n", none, errNoProxyHeader.Error()},
		{"nearly", "POST / HTTP/1.1\r\n", none, errNoProxyHeader.Error()},
		{"nearly v2", "\r\n\r\nGET / HTTP/1.1\r\n", none, errNoProxyHeader.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const rest = "GET /socket.io/"
			h, size, err := parseProxyHeader([]byte(tc.header + rest))
			if tc.says != "" {
				if err == nil || !strings.Contains(err.Error(), tc.says) {
					t.Fatalf("%v, want %q", err, tc.says)
				}
				return
			}
			if err != nil || h.client != tc.client || size != len(tc.header) {
				t.Fatalf("%v of %d bytes, %v; want %v of %d", h.client, size, err, tc.client, len(tc.header))
			}
			for n := range len(tc.header) { // it comes byte by byte
				_, more, err := parseProxyHeader([]byte(tc.header[:n]))
				if err != errProxyHeaderMore || more <= n || more > len(tc.header) {
					t.Fatalf("after %d bytes: %v, %d are needed", n, err, more)
				}
			}
		})
	}
	if h, size, err := parseProxyHeader(appendProxyLocal(nil)); err != nil || h.client.IsValid() || size != 16 {
		t.Errorf("the header of our own connections: %v of %d bytes, %v", h, size, err)
	}
}

// FuzzProxyHeader: the same bytes mean the same, whatever the pieces that they come in, and nothing that is not there is read.
func FuzzProxyHeader(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 203.0.113.7 10.0.0.1 56250 443\r\nGET /", "PROXY UNKNOWN\r\n", v2(0x21, 0x11, addresses4+tlv) + "GET /",
		v2(0x21, 0x21, addresses6), v2(0x20, 0, ""), "GET / HTTP/1.1\r\n", "PROXY TCP6 ::1 ::1 1 2\r\n",
	} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		h, size, err := parseProxyHeader(in)
		if err == nil && (size < 1 || size > len(in)) {
			t.Fatalf("a header of %d of %d bytes", size, len(in))
		}
		if err == nil && h.client.IsValid() && (h.client.Addr().Zone() != "" || h.client.Addr().Is4In6()) {
			t.Fatalf("client %v", h.client)
		}
		b, again, size2, err2 := readProxyHeader(&pieces{in, max(step%64, 1)}, make([]byte, 0, 64))
		if err == errProxyHeaderMore {
			if err2 == nil {
				t.Fatal("in pieces it is a header")
			}
			return
		}
		if again != h || size2 != size || (err == nil) != (err2 == nil) || errors.Is(err, errNoProxyHeader) != errors.Is(err2, errNoProxyHeader) || !bytes.HasPrefix(in, b) {
			t.Fatalf("at once %v, %d, %v; in pieces %v, %d, %v", h, size, err, again, size2, err2)
		}
	})
}

// pieces is a reader that gives few bytes at a time.
type pieces struct {
	left []byte
	each int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, errors.New("nothing more comes")
	}
	n := copy(b[:min(len(b), p.each)], p.left)
	p.left = p.left[n:]
	return n, nil
}
