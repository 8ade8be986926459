package test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// transport carries Engine.IO packets. It is for one goroutine.
type transport interface {
	send(packet string) error
	// next returns the next packet: its text, or the data of a binary one.
	next() (packet string, binary bool, err error)
	// cut ends the transport without a Socket.IO packet.
	cut()
}

// socketTransport is a WebSocket.
type socketTransport struct{ *wire.Client }

func (w socketTransport) send(packet string) error {
	_, err := w.Conn.Write(websocket.AppendMaskedFrame(nil, websocket.Text, []byte(packet), [4]byte{1, 2, 3, 4}))
	return err
}

func (w socketTransport) next() (string, bool, error) {
	f, err := w.Next()
	switch {
	case err != nil:
		return "", false, err
	case f.Op == websocket.Close:
		return "", false, fmt.Errorf("%w with %d", errClosed, f.Code)
	}
	return f.Data, f.Op == websocket.Binary, nil
}

func (w socketTransport) cut() { _ = w.Conn.Close() }

// errClosed is returned where the server closed the WebSocket in order.
var errClosed = errors.New("the server closed the WebSocket")

// pollTransport polls: a POST for each packet, a GET when all that came was read.
type pollTransport struct {
	url     string
	http    *http.Client
	packets []string // came and were not read
}

func (p *pollTransport) do(method, body string) (string, error) {
	r, err := http.NewRequestWithContext(context.Background(), method, p.url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	answer, err := p.http.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", method, answer.StatusCode, b)
	}
	return string(b), err
}

func (p *pollTransport) send(packet string) error {
	_, err := p.do(http.MethodPost, packet)
	return err
}

func (p *pollTransport) next() (string, bool, error) {
	if len(p.packets) == 0 {
		body, err := p.do(http.MethodGet, "")
		if err != nil {
			return "", false, err
		}
		p.packets = strings.Split(body, "\x1e")
	}
	packet := p.packets[0]
	p.packets = p.packets[1:]
	if encoded, binary := strings.CutPrefix(packet, "b"); binary {
		data, err := base64.StdEncoding.DecodeString(encoded)
		return string(data), true, err
	}
	return packet, false, nil
}

func (p *pollTransport) cut() { _ = p.send("1") }

// line is one Engine.IO session of a client, with its sockets by namespace.
type line struct {
	transport
	sid    string
	guests map[string]*guest
}

// dial opens a WebSocket.
func (n *recoveryNode) dial(t *testing.T) *line {
	t.Helper()
	l, err := n.tryDial(t)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// tryDial is dial for other goroutines than the test's.
func (n *recoveryNode) tryDial(t *testing.T) (*line, error) {
	c, err := wire.TryDial(t, n.addr, "/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		return nil, err
	}
	c.Pong = true
	return opened(socketTransport{c})
}

// poll opens a session that polls; it ends with the test.
func (n *recoveryNode) poll(t *testing.T) *line {
	t.Helper()
	p := &pollTransport{
		url:  "http://" + n.addr + "/socket.io/?EIO=4&transport=polling",
		http: &http.Client{Timeout: patience, Transport: &http.Transport{}},
	}
	t.Cleanup(p.http.CloseIdleConnections)
	l, err := opened(p)
	if err != nil {
		t.Fatal(err)
	}
	p.url += "&sid=" + l.sid
	t.Cleanup(p.cut)
	return l
}

// opened reads the open packet.
func opened(t transport) (*line, error) {
	packet, _, err := t.next()
	if err != nil {
		return nil, err
	}
	var open struct{ SID string }
	if packet[0] != '0' || json.Unmarshal([]byte(packet[1:]), &open) != nil {
		return nil, fmt.Errorf("open packet: %q", packet)
	}
	return &line{transport: t, sid: open.SID, guests: map[string]*guest{}}, nil
}

// upgrade goes on over a WebSocket, to this node.
func (n *recoveryNode) upgrade(t *testing.T, l *line) {
	t.Helper()
	if err := n.tryUpgrade(t, l); err != nil {
		t.Fatal(err)
	}
}

// tryUpgrade is upgrade for other goroutines than the test's.
func (n *recoveryNode) tryUpgrade(t *testing.T, l *line) error {
	for polled := l.transport.(*pollTransport); len(polled.packets) > 0; {
		if err := l.read(); err != nil {
			return err
		}
	}
	c, err := wire.TryDial(t, n.addr, "/socket.io/?EIO=4&transport=websocket&sid="+l.sid, nil)
	if err != nil {
		return err
	}
	c.Pong = true
	w := socketTransport{c}
	if err := w.send("2probe"); err != nil {
		return err
	}
	if text, _, err := w.next(); err != nil || text != "3probe" {
		return fmt.Errorf("probe: %q, %w", text, err)
	}
	l.transport = w
	return w.send("5")
}

// read takes one packet and hands it to the socket it is for.
func (l *line) read() error {
	text, binary, err := l.next()
	if err != nil {
		return err
	}
	if binary || text == "" || text[0] != '4' {
		return fmt.Errorf("unexpected packet %q", text)
	}
	p, err := socketio.Parse([]byte(text[1:]))
	if err != nil {
		return fmt.Errorf("%w: %q", err, text)
	}
	attachments := make([]string, p.Attachments)
	for i := range attachments {
		if attachments[i], binary, err = l.next(); err != nil || !binary {
			return fmt.Errorf("attachment %d of %q: %q, %w", i, text, attachments[i], err)
		}
	}
	g := l.guests[string(p.Namespace)]
	if g == nil {
		return fmt.Errorf("packet of another namespace: %q", text)
	}
	if err := g.take(&p, attachments); err != nil {
		return fmt.Errorf("%w: %q", err, text)
	}
	return nil
}

// guest is a socket of a client and what the client remembers to come back with,
// as socket.io-client does.
type guest struct {
	SID string `json:"sid"`
	PID string `json:"pid"`

	nsp    string
	line   *line
	offset string // the last argument of the last event

	came     []string // the first arguments of events that were not looked at yet
	answered bool     // the CONNECT was
	same     bool     // and it was recovered
	answer   string   // the last acknowledgement
	asked    bool     // an event came that wants an acknowledgement
}

// newGuest is a client's socket that was never connected.
func newGuest(namespace string) *guest { return &guest{nsp: namespace} }

func (g *guest) take(p *socketio.Packet, attachments []string) error {
	switch p.Type {
	case socketio.Connect:
		before := g.PID
		g.answered = true
		err := json.Unmarshal(p.Data, g)
		g.same = before != "" && before == g.PID
		return err
	case socketio.Event, socketio.BinaryEvent:
		var args []json.RawMessage
		if err := json.Unmarshal(p.Data, &args); err != nil {
			return err
		}
		if p.HasID { // has no offset
			g.asked = true
			return nil
		}
		if json.Unmarshal(args[len(args)-1], &g.offset) != nil || !strings.Contains(g.offset, ".") {
			return errors.New("no offset at the end")
		}
		first := string(args[1])
		if len(attachments) > 0 {
			first = fmt.Sprint([]byte(attachments[0]))
		}
		g.came = append(g.came, first)
		return nil
	case socketio.Ack:
		g.answer = string(p.Data)
		return nil
	}
	return errors.New("unexpected packet")
}

// wish sends CONNECT, with the session and the offset if there are any.
func (g *guest) wish(l *line, auth map[string]any) error {
	wish := map[string]any{}
	for k, v := range auth {
		wish[k] = v
	}
	if g.PID != "" {
		wish["pid"] = g.PID
		if g.offset != "" {
			wish["offset"] = g.offset
		}
	}
	b, err := json.Marshal(wish)
	if err != nil {
		return err
	}
	g.line, g.answered, g.same = l, false, false
	l.guests[g.nsp] = g
	return l.send("40" + g.prefix() + string(b))
}

// prefix is the namespace as packets name it.
func (g *guest) prefix() string {
	if g.nsp == "/" {
		return ""
	}
	return g.nsp + ","
}

// tryConnect sends CONNECT and reads on until it is answered.
func (g *guest) tryConnect(l *line, auth map[string]any) error {
	if err := g.wish(l, auth); err != nil {
		return err
	}
	return g.readUntil(func() bool { return g.answered })
}

func (g *guest) readUntil(done func() bool) error {
	for !done() {
		if err := g.line.read(); err != nil {
			return fmt.Errorf("after %d events and answered %t: %w", len(g.came), g.answered, err)
		}
	}
	return nil
}

// connect reports whether the socket was recovered.
func (g *guest) connect(t *testing.T, l *line, auth map[string]any) bool {
	t.Helper()
	if err := g.tryConnect(l, auth); err != nil {
		t.Fatal(err)
	}
	return g.same
}

// back connects and fails the test unless the socket is the same and the events
// that came before the answer are these.
func (g *guest) back(t *testing.T, l *line, missed ...string) {
	t.Helper()
	sid := g.SID
	if !g.connect(t, l, nil) || g.SID != sid {
		t.Fatalf("not recovered: %+v", g)
	}
	g.saw(t, missed...)
}

// saw fails the test unless these events came and no others.
func (g *guest) saw(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(g.came, want) {
		t.Fatalf("events %v, want %v", g.came, want)
	}
	g.came = nil
}

// expect reads events, which must be these.
func (g *guest) expect(t *testing.T, want ...string) {
	t.Helper()
	if err := g.readUntil(func() bool { return len(g.came) >= len(want) }); err != nil {
		t.Fatal(err)
	}
	g.saw(t, want...)
}

// call sends an event and returns its acknowledgement.
func (g *guest) call(t *testing.T, event string, args ...any) string {
	t.Helper()
	b, err := json.Marshal(append([]any{event}, args...))
	if err == nil {
		g.answer = ""
		err = g.line.send("42" + g.prefix() + "0" + string(b))
	}
	if err == nil {
		err = g.readUntil(func() bool { return g.answer != "" })
	}
	if err != nil {
		t.Fatal(err)
	}
	return g.answer
}

// away ends the connection and waits until the server knows.
func (g *guest) away(t *testing.T, n *recoveryNode) {
	t.Helper()
	g.line.cut()
	for range g.line.guests {
		n.gone(t)
	}
}

// numbers are the texts of from, from+1, … to-1.
func numbers(from, to int) []string {
	texts := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		texts = append(texts, strconv.Itoa(i))
	}
	return texts
}
