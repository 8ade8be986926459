package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// trustedProxies is TRUSTED_PROXIES.
type trustedProxies []netip.Prefix

// UnmarshalText reads addresses, networks and words for networks, separated by commas. It refuses what is everybody:
// each client could then say that it was another one.
func (t *trustedProxies) UnmarshalText(b []byte) error {
	*t = nil
	for _, part := range strings.Split(string(b), ",") {
		part = strings.TrimSpace(part)
		if of := networksOf(part); of != nil {
			*t = append(*t, of...)
			continue
		}
		p, err := parseNetwork(part)
		if err != nil {
			return err
		}
		*t = append(*t, p)
	}
	return nil
}

// networksOf is what a word stands for, nil if it is none.
func networksOf(word string) []netip.Prefix {
	switch word {
	case "loopback":
		return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	case "linklocal": // RFC 3927, RFC 4291 section 2.5.6
		return []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10")}
	case "private": // RFC 1918, RFC 4193
		return []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
			netip.MustParsePrefix("fc00::/7"),
		}
	}
	return nil
}

// parseNetwork reads an address or a network, as 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32.
func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || p.Addr().Is4In6():
		return p, fmt.Errorf("%q is not an address, a network such as 10.0.0.0/8, loopback, linklocal or private", text)
	case p.Bits() == 0:
		return p, fmt.Errorf("%q is everybody: any client could say that it was another one", text)
	}
	return p.Masked(), nil
}

// contains reports whether an address is one of theirs.
func (t trustedProxies) contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(a) })
}

// has is contains for the address of a connection.
func (t trustedProxies) has(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && t.contains(tcp.AddrPort().Addr())
}

// proxyProtocol is PROXY_PROTOCOL.
type proxyProtocol string

// Values of PROXY_PROTOCOL.
const (
	proxyProtocolOff proxyProtocol = "off"
	proxyProtocolOn  proxyProtocol = "on"
)

// UnmarshalText refuses anything else.
func (p *proxyProtocol) UnmarshalText(b []byte) error {
	return oneOf(p, b, proxyProtocolOff, proxyProtocolOn)
}

// checkProxies is about who stands between clients and this node.
func (c *Config) checkProxies(p *problems) {
	if c.ProxyProtocol == proxyProtocolOn && len(c.TrustedProxies) == 0 && !p.has("TRUSTED_PROXIES") {
		p.add("PROXY_PROTOCOL", "on needs TRUSTED_PROXIES: nobody else is believed")
	}
}

// proxied reports whether this node takes a connection from an address for a proxy's, which begins with a header.
func (c *Config) proxied(from net.Addr) bool {
	return c.ProxyProtocol == proxyProtocolOn && c.TrustedProxies.has(from)
}
