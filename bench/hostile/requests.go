package hostile

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	randv2 "math/rand/v2"
	"net/http"
	"strings"
)

// Targets.
const (
	openPolling   = "/socket.io/?EIO=4&transport=polling"
	openWebSocket = "/socket.io/?EIO=4&transport=websocket"
)

const upgradeHeaders = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// oneOf picks one.
func oneOf[T any](all ...T) T { return all[randv2.IntN(len(all))] }

// request sends a request; a body goes with a Content-Length of its own.
func (a *attack) request(method, target, headers, body string) bool {
	if body != "" {
		headers += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return a.write([]byte(method + " " + target + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body))
}

// answer reads an answer; the body is that of a status other than 101.
func (a *attack) answer() (status int, body string) {
	resp, err := http.ReadResponse(a.in, nil)
	if err != nil {
		return 0, ""
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // what came of it
	return resp.StatusCode, string(text)
}

// outcome is what an answer means.
func (a *attack) outcome(status int) Outcome {
	switch {
	case status == 0:
		return a.gone()
	case status >= 400:
		return Refused
	}
	return Served
}

// session opens a session that polls, and returns its target; "" if the node does not let it.
func (a *attack) session() string {
	if !a.request("GET", openPolling, "", "") {
		return ""
	}
	_, body := a.answer()
	var open struct{ SID string }
	if !strings.HasPrefix(body, "0{") || json.Unmarshal([]byte(body[1:]), &open) != nil {
		return ""
	}
	return openPolling + "&sid=" + open.SID
}

func connectionFlood(a *attack) Outcome { return Left }

func silentConnection(a *attack) Outcome {
	if _, err := a.in.ReadByte(); err == nil {
		return Refused
	}
	return a.gone()
}

func partialRequest(a *attack) Outcome {
	whole := "GET " + openWebSocket + " HTTP/1.1\r\nHost: x\r\n" + upgradeHeaders + "X-A: "
	if !a.write([]byte(whole[:1+randv2.IntN(len(whole)-1)])) {
		return a.gone()
	}
	return a.drip('a')
}

func slowBody(a *attack) Outcome {
	target := a.session()
	if target == "" || !a.request("POST", target, "Content-Length: 10000\r\n", "") {
		return a.gone()
	}
	return a.drip('4')
}

func junkBytes(a *attack) Outcome {
	junk := make([]byte, 1+randv2.IntN(8<<10))
	rand.Read(junk) // never fails
	if randv2.IntN(2) == 0 {
		junk = append(junk, "\r\n\r\n"...)
	}
	_ = a.write(junk) // it need not be read to its end
	status, _ := a.answer()
	return a.outcome(status)
}

func oversizedHeaders(a *attack) Outcome {
	headers := oneOf(strings.Repeat("X-A: b\r\n", 8000), "Cookie: "+strings.Repeat("a", 64<<10)+"\r\n", "Sec-WebSocket-Protocol: "+strings.Repeat("a,", 20_000)+"a\r\n")
	_ = a.request("GET", oneOf(openPolling, openWebSocket), headers+upgradeHeaders, "")
	status, _ := a.answer()
	return a.outcome(status)
}

func malformedPost(a *attack) Outcome {
	target := a.session()
	if target == "" {
		return a.gone()
	}
	body := oneOf("\x1e", "9", "b*", "4\xff", "42[", "40\x1e40", "2probe", "450-[1]", "4511-[1]", "bAQID", `42["message","lobby","x"]`, "42"+strings.Repeat("[", 5000), "x")
	_ = a.request("POST", target, oneOf("", "", "Content-Type: application/octet-stream\r\n"), body)
	status, _ := a.answer()
	return a.outcome(status)
}

func oversizedPost(a *attack) Outcome {
	target := a.session()
	if target == "" {
		return a.gone()
	}
	if randv2.IntN(2) == 0 {
		_ = a.request("POST", target, "Content-Length: 10000000000\r\n", "")
		_ = a.write(make([]byte, 64<<10))
	} else { // chunks up to the limit and beyond
		_ = a.request("POST", target, "Transfer-Encoding: chunked\r\n", "")
		chunk := []byte("8000\r\n" + strings.Repeat("4", 0x8000) + "\r\n")
		for sent := 0; sent < 2*a.plan.Payload && a.write(chunk); sent += 0x8000 {
		}
	}
	status, _ := a.answer()
	return a.outcome(status)
}

func unknownSession(a *attack) Outcome {
	target := oneOf(openPolling+"&sid=AAAAAAAAAAAAAAAAAAAA", openPolling+"&sid=__proto__", openPolling+"&sid="+strings.Repeat("A", 4000),
		"/socket.io/?EIO=3&transport=polling", "/socket.io/?EIO=4&transport=constructor", "/socket.io/", "/elsewhere")
	_ = a.request(oneOf("GET", "POST", "PUT", "OPTIONS"), target, oneOf("", upgradeHeaders), "")
	status, _ := a.answer()
	return a.outcome(status)
}

// upgradeAbuse lets several WebSockets want one session, by other rules than its own, and none go on.
func upgradeAbuse(a *attack) Outcome {
	target := a.session()
	if target == "" {
		return a.gone()
	}
	target = strings.Replace(target, "polling", "websocket", 1)
	last := Served
	for _, t := range []string{strings.Replace(target, "EIO=4", "EIO=3", 1), target, target} {
		if !a.dial() || !a.request("GET", t, upgradeHeaders, "") {
			return a.gone()
		}
		status, _ := a.answer()
		last = a.outcome(status)
	}
	return last
}
