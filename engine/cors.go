package engine

import (
	"net/http"
	"slices"

	"github.com/stellara/edge/metrics"
)

// CORS lets browsers of other origins use long-polling; it does not protect
// WebSocket (use Config.AllowOrigin for that). Semantics are those of the cors npm
// package, which Socket.IO servers in Node use.
type CORS struct {
	Origins     []string                 // allowed origins; "*" alone allows every origin with a wildcard answer
	Allowed     func(origin string) bool // if not nil, decides about origins that are not listed; allowed ones are reflected
	Credentials bool                     // cookies and the like may be sent
}

// any reports whether every origin is allowed with a wildcard answer.
func (c *CORS) any() bool { return len(c.Origins) == 1 && c.Origins[0] == "*" }

// corsHeader is what CORS adds to every answer; nil without CORS.
func (s *Server) corsHeader(r *http.Request) http.Header {
	c := s.cfg.CORS
	if c == nil {
		return nil
	}
	h := make(http.Header, 3)
	origin := r.Header.Get("Origin")
	switch {
	case c.any():
		h.Set("Access-Control-Allow-Origin", "*")
	default:
		h.Set("Vary", "Origin")
		if slices.Contains(c.Origins, origin) || origin != "" && c.Allowed != nil && c.Allowed(origin) {
			h.Set("Access-Control-Allow-Origin", origin)
		}
	}
	if c.Credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	return h
}

// cors adds CORS headers to the answer and answers preflight requests itself.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) (answered bool) {
	h := s.corsHeader(r)
	if h == nil {
		return false
	}
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE")
		if want := r.Header.Get("Access-Control-Request-Headers"); want != "" {
			h.Set("Access-Control-Allow-Headers", want)
			h.Add("Vary", "Access-Control-Request-Headers")
		}
		h.Set("Content-Length", "0")
	}
	for k, v := range h {
		w.Header()[k] = v
	}
	if r.Method != http.MethodOptions {
		return false
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}

// foreign answers a request of a browser whose page is of an origin that is not
// allowed, and reports whether it did.
func (s *Server) foreign(w http.ResponseWriter, r *http.Request) bool {
	if s.cfg.AllowOrigin == nil || r.Header["Origin"] == nil || s.cfg.AllowOrigin(r) {
		return false
	}
	s.m.Refusals[metrics.RefusalOrigin].Inc()
	s.log.Debug("origin refused", "origin", r.Header.Get("Origin"), "address", remoteIP(r.RemoteAddr))
	w.Header().Set("Connection", "close") // a body may follow that nobody reads
	http.Error(w, "the origin of this page may not connect here", http.StatusForbidden)
	return true
}
