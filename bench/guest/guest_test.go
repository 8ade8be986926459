package guest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// serve accepts one connection after the other; each text the client sends goes to answer, whose texts
// are sent back. A nil answer closes the connection.
func serve(t *testing.T, answer func(text string) []string) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go converse(c, answer)
		}
	}()
	return l.Addr().String()
}

func converse(c net.Conn, answer func(text string) []string) {
	defer c.Close()
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	up, err := websocket.CheckUpgrade(req)
	if err != nil {
		return
	}
	// The open packet comes in one write with the answer, as the edge sends it.
	out := websocket.AppendSwitchingProtocols(nil, up, nil)
	out = websocket.AppendFrame(out, websocket.Text, []byte(`0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}`))
	if _, err := c.Write(out); err != nil {
		return
	}
	var reader websocket.Reader
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		for data := buf[:n]; ; {
			m, rest, ok, err := reader.Next(data, &websocket.Limits{Server: true})
			if err != nil || m.Op == websocket.Close {
				return
			}
			if !ok {
				break
			}
			data = rest
			texts := answer(string(m.Data))
			if texts == nil {
				return
			}
			for _, text := range texts {
				_, _ = c.Write(websocket.AppendFrame(nil, websocket.Text, []byte(text)))
			}
		}
	}
}

// polite is a server that accepts everything; presence counts 3.
func polite(text string) []string {
	if strings.HasPrefix(text, "40") {
		return []string{"2", `40{"sid":"socket-1"}`}
	}
	if text == "3" {
		return []string{}
	}
	p, err := socketio.Parse([]byte(text[1:]))
	if err != nil {
		return nil
	}
	more := ""
	if strings.Contains(text, `"presence"`) {
		more = `,"count":3,"users":["a","b","c"]`
	}
	if strings.Contains(text, `"forbidden"`) {
		return []string{fmt.Sprintf(`43%d[{"ok":false,"code":"room_reserved"}]`, p.ID)}
	}
	return []string{`42["message","r1",{"from":"u"},1]`, fmt.Sprintf(`43%d[{"ok":true%s}]`, p.ID, more)}
}

func TestGuestDoesWhatAClientDoes(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	g, err := Dial(ctx, serve(t, polite), "ada")
	if err != nil || g.SID() != "socket-1" {
		t.Fatalf("%v, %v", g, err)
	}
	if err := g.Join(ctx, "r1"); err != nil {
		t.Error(err)
	}
	if n, err := g.Presence(ctx, "r1"); n != 3 || err != nil {
		t.Errorf("count %d, %v", n, err)
	}
	if err := g.Leave(ctx, "r1"); err != nil {
		t.Error(err)
	}
	if err := g.Join(ctx, "forbidden"); err == nil || !strings.Contains(err.Error(), "room_reserved") {
		t.Errorf("error %v does not say why", err)
	}
	g.Close(ctx)
	select {
	case <-g.Gone():
	default:
		t.Error("Close returned before the connection had ended")
	}
	if err := g.Join(ctx, "r1"); err == nil {
		t.Error("a guest that has left joins a room")
	}
}

func TestGuestNamesWhatWentWrong(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for want, answer := range map[string]func(string) []string{
		"token is missing": func(string) []string { return []string{`44{"message":"token is missing"}`} },
		"no socket id":     func(string) []string { return []string{`40{}`} },
		"EOF":              func(string) []string { return nil },
	} {
		if _, err := Dial(ctx, serve(t, answer), "ada"); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "ada") {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	// A server that never answers: what waits ends with its context.
	short, stop := context.WithCancel(ctx)
	defer stop()
	silent := serve(t, func(string) []string {
		stop() // it is connected, and waits for the answer
		return []string{}
	})
	if _, err := Dial(short, silent, "ada"); err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("error %v", err)
	}
}

func TestGuestIsToldThatItsConnectionEnded(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	g, err := Dial(ctx, serve(t, func(text string) []string {
		if strings.Contains(text, `"join"`) {
			return nil // closes the connection
		}
		return polite(text)
	}), "ada")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Join(ctx, "r1"); err == nil || !strings.Contains(err.Error(), "join r1") {
		t.Errorf("error %v", err)
	}
	<-g.Gone()
}
