package engine

import (
	"sync"
	"testing"

	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/websocket"
)

// Clients that come while others go keep their connections, though they get the
// descriptors of those that went: each is answered, round after round.
func TestComersKeepTheirConnections(t *testing.T) {
	const rounds, crowd = 400, 40
	_, addr := benchServer(t, func(s *Server) { s.Of("/", Inline()) })
	var going sync.WaitGroup
	for range rounds {
		clients := make([]*wire.Client, crowd)
		var coming sync.WaitGroup
		failed := make(chan error, crowd)
		for i := range clients {
			coming.Go(func() {
				c, err := wire.TryDial(t, addr, benchQuery, nil)
				if err != nil {
					failed <- err
					return
				}
				clients[i] = c
				c.Text("40")
				for range 2 { // the open packet, and the answer to CONNECT
					if _, err := c.Next(); err != nil {
						failed <- err
						return
					}
				}
			})
		}
		coming.Wait()
		close(failed)
		for err := range failed {
			t.Error(err)
		}
		if t.Failed() {
			break
		}
		for i, c := range clients { // the server is still at it while the next ones come
			going.Go(func() {
				switch i % 4 {
				case 0:
					c.Text("41", "1")
				case 1:
					c.Text("41", "1")
					_, _ = c.Next() // the server's close frame
				case 2:
					c.Raw(websocket.AppendMaskedFrame(nil, websocket.Close, []byte{0x03, 0xe8}, [4]byte{}))
					_, _ = c.Next()
				}
				_ = c.Conn.Close()
			})
		}
	}
	going.Wait()
}
