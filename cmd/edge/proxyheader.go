package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// proxyHeader is what a header of the PROXY protocol says
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt): who the client of the proxy is. It is the zero AddrPort
// where the connection is the proxy's own, such as a health check, or the client has no IP address.
type proxyHeader struct{ client netip.AddrPort }

// Why there is no header. Any other error of parseProxyHeader says what is wrong with the one that there is.
var (
	errProxyHeaderMore = errors.New("more of the PROXY header is to come")
	errNoProxyHeader   = errors.New("no PROXY header")
)

// Both versions (sections 2.1 and 2.2).
const (
	proxyV1Start   = "PROXY "
	proxyV1Longest = 107 // with its CRLF
	proxyV2Start   = "\r\n\r\n\x00\r\nQUIT\n"
	proxyV2Fixed   = 16   // signature, version and command, family and protocol, length
	proxyV2Longest = 2048 // taken with addresses and TLVs, of which senders are to keep to 536
)

// parseProxyHeader reads the header that a connection begins with: b is what has arrived, of which size bytes are the
// header. With errProxyHeaderMore size is how many bytes are needed before it is worth to ask again.
func parseProxyHeader(b []byte) (h proxyHeader, size int, err error) {
	switch {
	case len(b) == 0:
		return h, 1, errProxyHeaderMore
	case startsLike(b, proxyV2Start):
		return parseProxyV2(b)
	case startsLike(b, proxyV1Start):
		return parseProxyV1(b)
	}
	return h, 0, errNoProxyHeader
}

// startsLike reports whether b begins with start, as far as it goes.
func startsLike(b []byte, start string) bool {
	n := min(len(b), len(start))
	return string(b[:n]) == start[:n]
}

// parseProxyV1 reads the header in words.
func parseProxyV1(b []byte) (h proxyHeader, size int, err error) {
	end := bytes.Index(b[:min(len(b), proxyV1Longest)], []byte("\r\n"))
	switch {
	case end >= 0:
	case len(b) >= proxyV1Longest:
		return h, 0, fmt.Errorf("PROXY header without an end within %d bytes", proxyV1Longest)
	default:
		return h, len(b) + 1, errProxyHeaderMore
	}
	words := strings.Split(string(b[len(proxyV1Start):end]), " ")
	size = end + len("\r\n")
	if words[0] == "UNKNOWN" { // and what follows is to be ignored
		return h, size, nil
	}
	if len(words) != 5 || words[0] != "TCP4" && words[0] != "TCP6" {
		return h, 0, errors.New("PROXY header that is not TCP4 or TCP6, two addresses, two ports")
	}
	is4 := words[0] == "TCP4"
	client, err := v1Endpoint(words[1], words[3], is4)
	if err == nil {
		_, err = v1Endpoint(words[2], words[4], is4)
	}
	return proxyHeader{client}, size, err
}

// v1Endpoint reads an address of the family and a port.
func v1Endpoint(address, port string, is4 bool) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Is4() != is4 || a.Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("PROXY header with the address %q", address)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, fmt.Errorf("PROXY header with the port %q", port)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// Parts of the binary header's 13th and 14th byte.
const (
	proxyV2Local  = 0x20 // version 2, command LOCAL: the proxy itself
	proxyV2Proxy  = 0x21 // version 2, command PROXY
	proxyV2Unspec = 0x00
	proxyV2TCP4   = 0x11
	proxyV2TCP6   = 0x21
	proxyV2Unix   = 0x31
)

// parseProxyV2 reads the binary header. TLVs are skipped.
func parseProxyV2(b []byte) (h proxyHeader, size int, err error) {
	if len(b) < proxyV2Fixed {
		return h, proxyV2Fixed, errProxyHeaderMore
	}
	command, family := b[12], b[13]
	size = proxyV2Fixed + int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case command != proxyV2Local && command != proxyV2Proxy:
		return h, 0, fmt.Errorf("PROXY header of version and command %#x", command)
	case size > proxyV2Longest:
		return h, 0, fmt.Errorf("PROXY header of %d bytes, more than %d", size, proxyV2Longest)
	case len(b) < size:
		return h, size, errProxyHeaderMore
	case command == proxyV2Local: // what is said of addresses is to be ignored
		return h, size, nil
	}
	rest := b[proxyV2Fixed:size]
	var client netip.Addr
	switch width := map[byte]int{proxyV2TCP4: 4, proxyV2TCP6: 16}[family]; {
	case family == proxyV2Unspec || family == proxyV2Unix:
		return h, size, nil
	case width == 0:
		return h, 0, fmt.Errorf("PROXY header of family and protocol %#x", family)
	case len(rest) < 2*width+4:
		return h, 0, fmt.Errorf("PROXY header with %d bytes of addresses, not %d", len(rest), 2*width+4)
	default:
		client, _ = netip.AddrFromSlice(rest[:width])
		h.client = netip.AddrPortFrom(client.Unmap(), binary.BigEndian.Uint16(rest[2*width:]))
	}
	return h, size, nil
}

// appendProxyLocal appends the header of a connection that is the sender's own.
func appendProxyLocal(dst []byte) []byte {
	return append(append(dst, proxyV2Start...), proxyV2Local, proxyV2Unspec, 0, 0)
}
