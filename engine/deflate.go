package engine

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/websocket"
)

// Deflate is permessage-deflate (RFC 7692), for clients that offer it. No connection
// keeps a window, so that what is compressed once is shared by all that get it.
type Deflate struct {
	Level int // 1, the fastest, to 9, the smallest; 1
	From  int // size of a WebSocket message in bytes from which it is compressed; 1,024
}

// withDefaults returns the settings with defaults filled in, or an error that names
// every field that is wrong.
func (d Deflate) withDefaults() (*Deflate, error) {
	def(&d.Level, websocket.MinDeflateLevel)
	def(&d.From, 1024)
	var errs []error
	if d.Level < websocket.MinDeflateLevel || d.Level > websocket.MaxDeflateLevel {
		errs = append(errs, fmt.Errorf("engine: Deflate.Level %d is not between %d and %d", d.Level, websocket.MinDeflateLevel, websocket.MaxDeflateLevel))
	}
	if d.From < 1 {
		errs = append(errs, fmt.Errorf("engine: Deflate.From %d is below 1", d.From))
	}
	return &d, errors.Join(errs...)
}

// compressInto lets the hub compress, if that is on.
func (s *Server) compressInto(cfg *fanout.Config) error {
	if s.cfg.Deflate == nil {
		return nil
	}
	d, err := websocket.NewDeflater(s.cfg.Deflate.Level, s.cfg.Deflate.From)
	if err != nil {
		return err
	}
	cfg.CompressFrom = s.cfg.Deflate.From
	cfg.Compress = func(frames []byte) []byte {
		begun := time.Now()
		out := d.Compress(frames)
		s.m.DeflateSeconds.Add(time.Since(begun).Seconds())
		if out == nil {
			s.m.DeflateFutile.Inc()
			return nil
		}
		s.m.Deflated.Inc()
		s.m.DeflateInput.Add(float64(len(frames)))
		s.m.DeflateOutput.Add(float64(len(out)))
		return out
	}
	return nil
}

// checkUpgrade checks a WebSocket handshake and decides about what it offers.
func (s *Server) checkUpgrade(r *http.Request) (websocket.Upgrade, error) {
	u, err := websocket.CheckUpgrade(r)
	if err == nil && s.cfg.Deflate != nil {
		u.Extensions, err = websocket.AnswerDeflate(r.Header["Sec-Websocket-Extensions"])
	}
	return u, err
}

// agreed counts a handshake that was answered and reports whether messages may be
// compressed from there on.
func (s *Server) agreed(u *websocket.Upgrade) bool {
	if u.Extensions == "" {
		return false
	}
	s.m.DeflateConns.Inc()
	return true
}

// acceptDeflate lets both sides of a conn compress that is not attached yet.
func (c *conn) acceptDeflate() {
	c.mark(markDeflate)
	c.fan.TakeCompressed()
}
