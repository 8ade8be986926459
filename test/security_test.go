package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stellara/edge/internal/wire"
)

// TestSecurity has tests that are named after failures that were published of servers
// of this kind, with the number of the one that made the failure known where there is
// one. Each attacks an edge in a process of its own over raw connections, and demands
// that the edge refuses with a status or close code and under a reason of its metrics,
// that it reads no more of the attacker than it says, and that two other clients, one
// on a WebSocket and one that polls, get their messages meanwhile.
func TestSecurity(t *testing.T) {
	if testing.Short() {
		t.Skip("the security tests build and start an edge; -short skips them")
	}
	bin := build(t, "EDGE_BIN", "github.com/stellara/edge/cmd/edge")
	for name, run := range map[string]func(t *testing.T, bin string){
		"frames": securityFrames, "requests": securityRequests, "patience": securityPatience,
		"origin bypass (CVE-2020-28481)": securityOriginBypass, "algorithm confusion (CVE-2015-9235)": securityAlgorithmConfusion,
	} {
		t.Run(name, func(t *testing.T) { run(t, bin) })
	}
}

// attackedPayload is the MAX_PAYLOAD of the edge that is attacked.
const attackedPayload = 100_000

// attacked is an edge in a process of its own, with two clients whom nothing may bother.
type attacked struct {
	addr, admin string
	bystanders  [2]*bystander // on a WebSocket, and polling
	rounds      int
}

// bystander is a healthy client in the room lobby.
type bystander struct{ *line }

// attack starts an edge that ends with the test, and its healthy clients. auth is what
// they send in CONNECT, empty if anybody may connect.
func attack(t *testing.T, bin, auth string, environ ...string) *attacked {
	t.Helper()
	a := startAttacked(t, bin, environ...)
	n := &recoveryNode{addr: a.addr}
	if auth == "" {
		auth = "{}"
	}
	for i, l := range []*line{n.dial(t), n.poll(t)} {
		b := &bystander{l}
		a.bystanders[i] = b
		b.say(t, "40"+auth)
		b.await(t, `40{"sid"`, "")
		b.say(t, `420["join","lobby"]`)
		b.await(t, `430[{"ok":true`, "")
	}
	a.healthy(t)
	return a
}

// startAttacked starts the process and waits until it serves.
func startAttacked(t *testing.T, bin string, environ ...string) *attacked {
	t.Helper()
	cmd := exec.Command(bin)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "PRESENCE_WINDOW=0s", "DEFLATE=on",
		fmt.Sprintf("MAX_PAYLOAD=%d", attackedPayload),
	}, environ...)
	ownGroup(cmd)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	a := &attacked{}
	var log strings.Builder
	var mu sync.Mutex // guards log
	ready, ended := make(chan struct{}), make(chan struct{})
	var told sync.Once
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			mu.Lock()
			log.WriteString(lines.Text() + "\n")
			mu.Unlock()
			if strings.Contains(lines.Text(), "msg=ready") {
				told.Do(func() { close(ready) }) // after a pause it may say so again
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = endGroup(cmd)
		<-ended
		if t.Failed() || strings.Contains(log.String(), "panic") {
			t.Errorf("the edge said:\n%s", log.String())
		}
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatal("the edge ended")
	case <-time.After(patience):
		t.Fatal("the edge is not ready")
	}
	mu.Lock()
	defer mu.Unlock()
	where := regexp.MustCompile(`msg=starting .*listen=(\S+) admin=(\S+)`).FindStringSubmatch(log.String())
	if where == nil {
		t.Fatalf("no addresses in %s", log.String())
	}
	a.addr, a.admin = where[1], where[2]
	return a
}

// say sends a packet.
func (b *bystander) say(t *testing.T, packet string) {
	t.Helper()
	if err := b.send(packet); err != nil {
		t.Fatalf("a healthy client: %v", err)
	}
}

// await reads packets until one begins and goes on so.
func (b *bystander) await(t *testing.T, prefix, part string) {
	t.Helper()
	for {
		packet, _, err := b.next()
		if err != nil {
			t.Fatalf("a healthy client, waiting for %s...%s: %v", prefix, part, err)
		}
		if packet == "2" {
			b.say(t, "3")
		}
		if strings.HasPrefix(packet, prefix) && strings.Contains(packet, part) {
			return
		}
	}
}

// healthy has each of the two send a message to the room that both are in; both receive it.
func (a *attacked) healthy(t *testing.T) {
	t.Helper()
	for i, sender := range a.bystanders {
		a.rounds++
		text := fmt.Sprintf(`"round %d"`, a.rounds)
		sender.say(t, `42["message","lobby",`+text+`]`)
		for j := range a.bystanders {
			a.bystanders[(i+j)%2].await(t, `42["message","lobby",`, text)
		}
	}
}

// counted are the counters that say what was refused and what was closed, by
// "refusal <reason>", "close <reason>" and "auth <result>".
type counted map[string]float64

// whatever is a wanted value that may be any.
const whatever = -1

// families are the counters, by what their names begin with in counted.
var families = map[string]string{"edge_refusals_total": "refusal ", "edge_closes_total": "close ", "edge_authentications_total": "auth "}

// counts reads them, and the bytes that came from clients.
func (a *attacked) counts(t *testing.T) (counted, float64) {
	t.Helper()
	c, bytes := counted{}, 0.0
	for line := range strings.Lines(a.scrape(t)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		if name == "edge_received_bytes_total" {
			bytes = n
		}
		family, label, _ := strings.Cut(name, "{")
		if prefix := families[family]; prefix != "" {
			_, reason, _ := strings.Cut(label, `="`)
			if reason = strings.TrimSuffix(reason, `"}`); reason != "accepted" {
				c[prefix+reason] = n
			}
		}
	}
	return c, bytes
}

// scrape returns the edge's metrics.
func (a *attacked) scrape(t *testing.T) string {
	t.Helper()
	resp, err := http.Get("http://" + a.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// suffers attacks and waits until what was refused and closed since then is exactly
// what is wanted; the healthy clients' messages come through during it and
// afterwards. It returns how many bytes the edge took from clients, the healthy
// ones' few included.
func (a *attacked) suffers(t *testing.T, want counted, f func()) (took int) {
	t.Helper()
	before, bytesBefore := a.counts(t)
	f()
	a.healthy(t)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		now, bytes := a.counts(t)
		got := counted{}
		for name, n := range now {
			switch d := n - before[name]; {
			case want[name] == whatever:
				got[name] = whatever
			case d != 0:
				got[name] = d
			}
		}
		if maps.Equal(got, want) {
			a.healthy(t)
			return int(bytes - bytesBefore)
		}
		if time.Now().After(deadline) {
			t.Fatalf("refused and closed %v, want %v", got, want)
		}
	}
}

// alone waits until the two healthy clients are the only ones.
func (a *attacked) alone(t *testing.T) {
	t.Helper()
	until(t, "the attackers to be gone", func() error {
		text := a.scrape(t)
		for _, transport := range []string{"polling", "websocket"} {
			if !strings.Contains(text, "\nedge_conns{transport=\""+transport+"\"} 1\n") {
				return fmt.Errorf("there is not one conn of the transport %s", transport)
			}
		}
		return nil
	})
}

// slack is what the healthy clients send during an attack, in bytes, at most, and what
// an attacker sends to get so far.
const slack = 4 << 10

// bounded fails the test if the edge took more.
func bounded(t *testing.T, took, bound int) {
	t.Helper()
	if took > bound+slack {
		t.Errorf("the edge took %d bytes, at most %d are allowed", took, bound+slack)
	}
}

// attacker is a WebSocket in the main namespace.
func (a *attacked) attacker(t *testing.T) *wire.Client {
	t.Helper()
	c := wire.Dial(t, a.addr, "/socket.io/?EIO=4&transport=websocket", nil)
	c.Receive()
	c.Text("40")
	if answer := c.Receive(); !strings.HasPrefix(answer, `40{"sid"`) {
		t.Fatalf("CONNECT is answered with %q", answer)
	}
	return c
}

// session opens a session that polls, which ends with the test, and returns its target.
func (a *attacked) session(t *testing.T) string {
	t.Helper()
	return a.sessionWith(t, "")
}

// sessionWith is session with further headers in the request.
func (a *attacked) sessionWith(t *testing.T, headers string) string {
	t.Helper()
	status, body := a.request(t, "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n"+headers+"\r\n")
	var open struct{ SID string }
	if status != 200 || json.Unmarshal([]byte(body[1:]), &open) != nil {
		t.Fatalf("opening poll: %d %q", status, body)
	}
	target := "/socket.io/?EIO=4&transport=polling&sid=" + open.SID
	t.Cleanup(func() { a.post(t, target, "1") }) // it may be over
	return target
}

// post posts a body and returns the answer.
func (a *attacked) post(t *testing.T, target, body string) (int, string) {
	t.Helper()
	return a.request(t, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", target, len(body), body))
}

// raw opens a TCP connection.
func (a *attacked) raw(t *testing.T) net.Conn {
	t.Helper()
	nc, err := net.DialTimeout("tcp", a.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	return nc
}

// request writes the text on a connection of its own and returns the first answer.
func (a *attacked) request(t *testing.T, text string) (int, string) {
	t.Helper()
	nc := a.raw(t)
	defer nc.Close()
	go func() { _, _ = io.WriteString(nc, text) }() // it need not be read to its end
	return answerOn(t, nc)
}

// answerOn reads one answer.
func answerOn(t *testing.T, nc net.Conn) (int, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
