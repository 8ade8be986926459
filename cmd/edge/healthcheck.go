package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// healthcheckTimeout is below the shortest interval that container runtimes use by default.
const healthcheckTimeout = 3 * time.Second

// healthcheck asks /healthz of the server that listens on listenAddr. It is
// the HEALTHCHECK of images that have no other program in them. proxied says of a
// connection whether the server takes it for a proxy's.
func healthcheck(ctx context.Context, listenAddr string, proxied func(from net.Addr) bool) error {
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	url := "http://" + dialAddr(listenAddr) + "/healthz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// A transport of its own ignores HTTP_PROXY: the server is on this machine.
	res, err := (&http.Transport{DisableKeepAlives: true, DialContext: dialProxied(proxied)}).RoundTrip(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, res.Status)
	}
	return nil
}

// dialAddr is the address at which a listener on addr can be reached from its own machine.
func dialAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if host == "" {
		host = "127.0.0.1"
	} else if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
