package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/internal/wire"
)

// securityRequests attacks with requests.
func securityRequests(t *testing.T, bin string) {
	a := attack(t, bin, "")
	for name, f := range map[string]func(*testing.T, *attacked){
		"oversized headers (CVE-2024-37890)":                  oversizedHeaders,
		"malformed posts":                                     malformedPosts,
		"oversized posts (CVE-2020-36048)":                    oversizedPosts,
		"posts and polls at once":                             requestsAtOnce,
		"unknown transports (CVE-2023-31125)":                 unknownTransports,
		"connections reset in the handshake (CVE-2022-41940)": resetHandshakes,
		"transport switch with another EIO":                   switchWithAnotherEIO,
		"sid fixation":                                        sidFixation,
		"private session guessed":                             sessionGuessed,
		"slow bodies":                                         slowBodies,
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { a.alone(t) })
			f(t, a)
		})
	}
}

const upgradeHeaders = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// get is a GET request.
func get(target, headers string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n"
}

// Targets of opening requests.
const (
	openPolling   = "/socket.io/?EIO=4&transport=polling"
	openWebSocket = "/socket.io/?EIO=4&transport=websocket"
)

// refusedWith fails the test unless the answer is this.
func refusedWith(t *testing.T, what string, status, wantStatus int, body, wantBody string) {
	t.Helper()
	if status != wantStatus || !strings.Contains(body, wantBody) {
		t.Errorf("%.80q is answered %d %q, want %d %q", what, status, body, wantStatus, wantBody)
	}
}

// CVE-2024-37890, ws: a handshake with more headers than a server counts ended the process.
func oversizedHeaders(t *testing.T, a *attacked) {
	for _, target := range []string{openPolling, openWebSocket} {
		for _, headers := range []string{
			strings.Repeat("X-A: b\r\n", 5000), "X-A: " + strings.Repeat("a", 64<<10) + "\r\n", "Cookie: " + strings.Repeat("a=b; ", 10_000) + "\r\n",
			"Sec-WebSocket-Protocol: " + strings.Repeat("a,", 20_000) + "a\r\n", "Sec-WebSocket-Extensions: " + strings.Repeat("permessage-deflate;", 3000) + "a\r\n",
		} {
			took := a.suffers(t, counted{"refusal request_head": 1}, func() {
				status, body := a.request(t, get(target, headers+upgradeHeaders))
				refusedWith(t, headers, status, 431, body, "")
			})
			bounded(t, took, 0)
		}
	}
	// What is below the limit, but not what the grammar allows, or more than is needed, is read once.
	a.suffers(t, counted{"refusal bad_request": 2}, func() {
		for _, headers := range []string{"Sec-WebSocket-Extensions: a;;" + strings.Repeat(" ", 8000) + "b\r\n", "Sec-WebSocket-Protocol: a" + strings.Repeat(" ", 8000) + "b\r\n"} {
			status, body := a.request(t, get(openWebSocket, headers+upgradeHeaders))
			refusedWith(t, headers, status, 400, body, "Sec-WebSocket-")
		}
	})
}

func malformedPosts(t *testing.T, a *attacked) {
	for body, reason := range map[string]string{
		"": "parse_error", "\x1e": "parse_error", "9": "parse_error", "x": "parse_error", "b*": "parse_error", "4\xff": "parse_error", "40\x1e\x1e40": "parse_error",
		"4": "forced_close", "47": "forced_close", "42[": "forced_close", `42["a"`: "forced_close", "40{}{}": "forced_close", "bAQID": "forced_close",
		"40\x1e40": "forced_close", `42["message","lobby","x"]`: "forced_close", "2": "transport_error", "2probe": "transport_error",
	} {
		a.suffers(t, counted{"close " + reason: 1}, func() {
			status, answer := a.post(t, a.session(t), body)
			refusedWith(t, body, status, 400, answer, "")
		})
	}
	a.suffers(t, counted{"close transport_error": 1}, func() { // binary payloads ended with revision 3
		status, answer := a.request(t, "POST "+a.session(t)+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 2\r\n\r\n40")
		refusedWith(t, "octets", status, 400, answer, "")
	})
}

// CVE-2020-36048, engine.io: a POST was read into memory whatever its size.
func oversizedPosts(t *testing.T, a *attacked) {
	session := a.session(t)
	took := a.suffers(t, counted{}, func() {
		status, body := a.post(t, session, strings.Repeat("4", attackedPayload+1))
		refusedWith(t, "a byte too much", status, 413, body, "")
		for _, length := range []string{"1000000", "10000000000", "9223372036854775807"} {
			status, body := a.request(t, "POST "+session+" HTTP/1.1\r\nHost: x\r\nContent-Length: "+length+"\r\n\r\n"+strings.Repeat("4", 1000))
			refusedWith(t, length, status, 413, body, "")
		}
		nc := a.raw(t)
		go func() { // chunks for as long as somebody reads
			_, err := io.WriteString(nc, "POST "+session+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
			for chunk := "4000\r\n" + strings.Repeat("4", 0x4000) + "\r\n"; err == nil; {
				_, err = io.WriteString(nc, chunk)
			}
		}()
		status, body = answerOn(t, nc)
		refusedWith(t, "chunks without end", status, 413, body, "")
	})
	bounded(t, took, 0)
	a.suffers(t, counted{"close transport_close": 1}, func() { // the session survives
		status, body := a.post(t, session, "40\x1e1")
		refusedWith(t, "after it", status, 200, body, "ok")
	})
}

// A session's requests that overlap would make its packets change places.
func requestsAtOnce(t *testing.T, a *attacked) {
	a.suffers(t, counted{"close transport_error": 1}, func() {
		session := a.session(t)
		first := a.raw(t)
		_, _ = io.WriteString(first, "POST "+session+" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n4")
		for status := 200; status != 400; { // until the edge has begun with the first
			status, _ = a.post(t, session, "3")
		}
		_, _ = io.WriteString(first, "0")
		if status, body := answerOn(t, first); status != 400 {
			t.Errorf("the first POST is answered %d %q", status, body)
		}
	})
	a.suffers(t, counted{"close transport_error": 1}, func() {
		session := a.session(t)
		polls := []net.Conn{a.raw(t), a.raw(t)}
		answers := make(chan string, len(polls))
		for _, nc := range polls {
			_, _ = io.WriteString(nc, get(session, ""))
			go func() {
				status, body := answerOn(t, nc)
				answers <- fmt.Sprint(status, " ", body)
			}()
		}
		got := map[string]bool{<-answers: true, <-answers: true}
		if !got["400 "] || !got["200 1"] {
			t.Errorf("answered %v", got)
		}
	})
}

// CVE-2023-31125, engine.io: a WebSocket with a transport that is none ended the process.
func unknownTransports(t *testing.T, a *attacked) {
	for _, name := range []string{"__proto__", "constructor", "toString", "webtransport", "flashsocket", "", "Polling", "polling%00"} {
		a.suffers(t, counted{"refusal transport_unknown": 3}, func() {
			for _, request := range []string{
				get("/socket.io/?EIO=4&transport="+name, ""), get("/socket.io/?EIO=4&transport="+name, upgradeHeaders), get("/socket.io/?EIO=4&sid=__proto__&transport="+name, upgradeHeaders),
			} {
				status, body := a.request(t, request)
				refusedWith(t, request, status, 400, body, "Transport unknown")
			}
		})
	}
	a.suffers(t, counted{"refusal bad_request": 2}, func() {
		session := a.session(t)
		status, body := a.request(t, get(session, upgradeHeaders)) // an upgrade for the transport polling
		refusedWith(t, "an upgrade to polling", status, 400, body, "Bad request")
		status, body = a.request(t, get(strings.Replace(session, "polling", "websocket", 1), ""))
		refusedWith(t, "a WebSocket without an upgrade", status, 400, body, "Bad request")
	})
}

// CVE-2022-41940, engine.io: a client that was gone in the middle of a handshake ended
// the process.
func resetHandshakes(t *testing.T, a *attacked) {
	whole := get(openWebSocket, upgradeHeaders)
	a.suffers(t, counted{"refusal request_head": whatever}, func() { // a reset may come before what was sent is read
		for cut := 1; cut < len(whole); cut += 7 {
			nc := a.raw(t)
			_, _ = io.WriteString(nc, whole[:cut])
			_ = nc.(*net.TCPConn).SetLinger(0) // a reset
			_ = nc.Close()
		}
	})
}

// An upgrade that names another revision of the protocol than its session has would
// have the session's packets read by other rules.
func switchWithAnotherEIO(t *testing.T, a *attacked) {
	session := a.session(t)
	upgrade := strings.Replace(session, "polling", "websocket", 1)
	a.suffers(t, counted{"refusal bad_request": 6}, func() {
		for _, eio := range []string{"EIO=3", "EIO=", "EIO=5", "EIO=4&EIO=3", "EIO=04", "EIO=4%20"} {
			status, body := a.request(t, get(strings.Replace(upgrade, "EIO=4", eio, 1), upgradeHeaders))
			refusedWith(t, eio, status, 400, body, "Bad request")
		}
	})
	a.suffers(t, counted{"refusal bad_request": 2}, func() {
		for _, request := range []string{get(strings.Replace(session, "EIO=4", "EIO=3", 1), ""), "POST " + strings.Replace(session, "EIO=4", "EIO=3", 1) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"} {
			status, body := a.request(t, request)
			refusedWith(t, request, status, 400, body, "Bad request")
		}
	})
	a.suffers(t, counted{"close transport_close": 1}, func() { // the session is untouched, and can still upgrade
		c := wire.Dial(t, a.addr, upgrade, nil)
		c.Text("2probe")
		c.Expect("3probe")
		c.Text("5", "1")
		c.ExpectClosed()
	})
}

// A session id that a client chooses must never become one: who knows it would read and
// write in the name of whom it was foisted on.
func sidFixation(t *testing.T, a *attacked) {
	const chosen = "AAAAAAAAAAAAAAAAAAAA"
	a.suffers(t, counted{"refusal session_unknown": 5}, func() {
		for _, request := range []string{
			get(openPolling+"&sid="+chosen, ""), get(openWebSocket+"&sid="+chosen, upgradeHeaders), get(openPolling+"&sid=..%2f..%2f", ""),
			get(openPolling+"&sid="+strings.Repeat("A", 8000), ""), "POST " + openPolling + "&sid=" + chosen + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n40",
		} {
			status, body := a.request(t, request)
			refusedWith(t, request, status, 400, body, "Session ID unknown")
		}
	})
	a.suffers(t, counted{}, func() { // other places than the query say nothing
		for _, headers := range []string{"Cookie: io=" + chosen + "; sid=" + chosen + "\r\n", "X-Sid: " + chosen + "\r\nsid: " + chosen + "\r\n"} {
			if session := a.sessionWith(t, headers); strings.Contains(session, chosen) {
				t.Errorf("with %q the session is %q", headers, session)
			}
		}
	})
	a.suffers(t, counted{"refusal session_unknown": 2}, func() { // nobody else can name the session of a WebSocket, nor that of a socket
		c := wire.Dial(t, a.addr, openWebSocket, nil)
		_, rest, _ := strings.Cut(c.Receive(), `"sid":"`)
		sid, _, _ := strings.Cut(rest, `"`)
		c.Text("40")
		_, rest, _ = strings.Cut(c.Receive(), `"sid":"`)
		socket, _, _ := strings.Cut(rest, `"`)
		for _, sid := range []string{sid, socket} {
			status, body := a.post(t, openPolling+"&sid="+sid, `42["message","lobby","stolen"]`)
			refusedWith(t, sid, status, 400, body, "Session ID unknown")
		}
	})
}

// The name of a stored session is a secret of its client: another's socket id, or any
// other guess, gives nobody that session.
func sessionGuessed(t *testing.T, a *attacked) {
	victim := wire.Dial(t, a.addr, openWebSocket, nil)
	victim.Receive()
	victim.Text(`40{"userId":"victim"}`)
	_, rest, _ := strings.Cut(victim.Receive(), `"sid":"`)
	sid, _, _ := strings.Cut(rest, `"`)
	a.suffers(t, counted{}, func() {
		for _, pid := range []string{sid, "AAAAAAAAAAAAAAAAAAAA", "__proto__", "*", strings.Repeat("A", 1000)} {
			c := wire.Dial(t, a.addr, openWebSocket, nil)
			c.Receive()
			c.Text(`40{"userId":"victim","pid":"` + pid + `","offset":"AAAAAAAA.0-0"}`)
			if answer := c.Receive(); strings.Contains(answer, sid) || !strings.HasPrefix(answer, `40{"sid"`) {
				t.Errorf("%q is answered with %q", pid, answer)
			}
		}
	})
	victim.Text(`420["presence","x"]`)
	if answer := victim.Receive(); !strings.HasPrefix(answer, "430") {
		t.Errorf("the victim is told %q", answer)
	}
}

// A body that does not come holds its connection for as long as the edge allows, and
// nothing else: neither other sessions nor its own polls. (engine's TestSlowBodies shows
// that it ends.)
func slowBodies(t *testing.T, a *attacked) {
	const slow = 50
	a.suffers(t, counted{"close transport_error": slow}, func() {
		var posts []net.Conn
		for range slow {
			nc := a.raw(t)
			_, _ = io.WriteString(nc, "POST "+a.session(t)+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n4")
			posts = append(posts, nc)
		}
		for i := range 3 {
			a.healthy(t)
			for _, nc := range posts {
				if _, err := io.WriteString(nc, fmt.Sprint(i)); err != nil {
					t.Fatalf("a slow body was ended by %v", err)
				}
			}
		}
		for _, nc := range posts {
			_ = nc.Close()
		}
	})
}

// securityPatience attacks with what never comes to an end.
func securityPatience(t *testing.T, bin string) {
	const attackers = 20
	a := attack(t, bin, "", "HEADER_TIMEOUT=1s", "ATTACHMENT_TIMEOUT=1s")
	t.Run("slow headers (CVE-2007-6750)", func(t *testing.T) {
		t.Cleanup(func() { a.alone(t) })
		a.suffers(t, counted{"refusal request_head": attackers}, func() {
			var slow []net.Conn
			for range attackers {
				nc := a.raw(t)
				_, _ = io.WriteString(nc, "GET "+openWebSocket+" HTTP/1.1\r\nHost: x\r\nX-A: ")
				slow = append(slow, nc)
				go func() { // a byte now and then, for as long as somebody waits for more
					for {
						if _, err := io.WriteString(nc, "a"); err != nil {
							return
						}
						time.Sleep(50 * time.Millisecond) // a rate, not a wait
					}
				}()
			}
			a.healthy(t)
			for _, nc := range slow {
				if _, err := io.Copy(io.Discard, nc); isTimeout(err) {
					t.Fatal("the edge waits for headers that do not come")
				}
			}
		})
	})
	const packet = `451-["message","lobby",{"_placeholder":true,"num":0}]`
	for name, begun := range map[string][]byte{
		"attachments that do not come": frame(finText, uint64(len(packet)), packet),
		"a message that does not end":  frame(firstText, 1, "4"),
		"a frame that does not end":    frame(firstBinary|0x80, attackedPayload, strings.Repeat("x", 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { a.alone(t) })
			took := a.suffers(t, counted{"close attachment_timeout": attackers}, func() {
				var open []*wire.Client
				for range attackers {
					c := a.attacker(t)
					c.Raw(begun)
					open = append(open, c)
				}
				a.healthy(t)
				for _, c := range open {
					c.ExpectClosed()
				}
			})
			bounded(t, took, attackers*(len(begun)+100))
		})
	}
}

// isTimeout reports whether a connection was still open when its time was over.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
