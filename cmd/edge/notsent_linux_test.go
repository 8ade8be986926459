package main

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Every accepted connection has the listener's bound, and write(2) keeps to it: a client that
// reads nothing gets its window full and then costs no more than the bound.
func TestClientsInheritNotSent(t *testing.T) {
	const bound = 32 << 10
	for want, notSent := range map[int]int{bound: bound, 0: 0} {
		ln, err := listenClients(t.Context(), "127.0.0.1:0", notSent)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		served, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer served.Close()
		raw, err := served.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var got, unsent int
		var optErr, queueErr error
		err = raw.Control(func(fd uintptr) {
			got, optErr = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
			for n := 1; n > 0; {
				n, _ = unix.Write(int(fd), make([]byte, 8<<10))
			}
			unsent, queueErr = unix.IoctlGetInt(int(fd), siocOutQNSD)
		})
		if err != nil || optErr != nil || queueErr != nil {
			t.Fatal(err, optErr, queueErr)
		}
		if got != want {
			t.Errorf("bound %d: the connection has TCP_NOTSENT_LOWAT %d", notSent, got)
		}
		// The last write may begin below the bound and end above it.
		if notSent > 0 && unsent > bound+64<<10 {
			t.Errorf("bound %d: %d bytes are not sent", notSent, unsent)
		}
		if notSent == 0 && unsent <= bound+64<<10 {
			t.Errorf("without a bound only %d bytes are not sent: the test shows nothing", unsent)
		}
	}
}

// siocOutQNSD asks how many bytes of a socket were not sent (linux/sockios.h).
const siocOutQNSD = 0x894B
