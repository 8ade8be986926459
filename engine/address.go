package engine

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientAddress is who sent a request that came from remote: remote itself, unless that is a trusted proxy. Then it is
// the nearest in X-Forwarded-For that is none, for each proxy appends whom it got the request from; what is left of that
// one was written by the client, as it liked. Where an entry is no address the walk ends at the proxy that sent it, and
// where all are proxies at the farthest: nobody is named by what nobody vouches for. forwarded is the field's lines in order.
func clientAddress(remote netip.Addr, forwarded []string, trusted []netip.Prefix) netip.Addr {
	at := plainAddress(remote)
	for i := len(forwarded) - 1; i >= 0; i-- {
		for list, more := forwarded[i], true; more; {
			if !isAmong(at, trusted) {
				return at
			}
			var entry string
			if comma := strings.LastIndexByte(list, ','); comma >= 0 {
				list, entry = list[:comma], list[comma+1:]
			} else {
				entry, more = list, false
			}
			if entry = strings.Trim(entry, " \t"); entry == "" {
				continue // RFC 9110, section 5.6.1.2: empty elements do not count
			}
			next, ok := forwardedAddress(entry)
			if !ok {
				return at
			}
			at = next
		}
	}
	return at
}

// forwardedAddress reads one entry of X-Forwarded-For: an address, which some proxies give with a port.
func forwardedAddress(entry string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]")); err == nil {
		return plainAddress(a), true
	}
	ap, err := netip.ParseAddrPort(entry)
	return plainAddress(ap.Addr()), err == nil
}

// plainAddress is an address in the form in which it is compared: IPv4 as itself, and without a zone, which means
// something on one machine only.
func plainAddress(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// isAmong reports whether one of the prefixes contains a.
func isAmong(a netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// locate makes RemoteAddr of a request that came by way of trusted proxies the client's own, with the port 0, which
// nobody knows: for limits, Config.Allow, the handshake and logs alike.
func (s *Server) locate(r *http.Request) {
	forwarded := r.Header["X-Forwarded-For"]
	if len(s.cfg.TrustedProxies) == 0 || len(forwarded) == 0 {
		return
	}
	remote := remoteAddress(r)
	if !remote.IsValid() {
		return // no IP at all, such as a Unix socket
	}
	if client := clientAddress(remote, forwarded, s.cfg.TrustedProxies); client != remote {
		r.RemoteAddr = netip.AddrPortFrom(client, 0).String()
	}
}

// remoteAddress is the address that a request came from, the zero Addr if it is no IP address.
func remoteAddress(r *http.Request) netip.Addr { return parseAddress(remoteIP(r.RemoteAddr)) }

// parseAddress reads an IP address in the form that String gives it; the zero Addr if it is none.
func parseAddress(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil || a.String() != text {
		return netip.Addr{}
	}
	return a
}
