package engine

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stellara/edge/metrics"
)

// get answers a GET when there is something to send.
func (p *polling) get(w http.ResponseWriter, r *http.Request) {
	done := make(chan answer, 1)
	get := p.park(func(a answer) { done <- a })
	select {
	case a := <-done:
		p.c.srv.respondPoll(w, r, a)
	case <-r.Context().Done():
		p.leave(get)
	}
}

// serve handles a POST.
func (p *polling) serve(w http.ResponseWriter, r *http.Request) {
	srv := p.c.srv
	refused, ok := p.beginPost()
	if !ok {
		srv.respondPost(w, r, refused)
		return
	}
	a, body := srv.readBody(w, r)
	switch a.status {
	case http.StatusOK:
		a = p.post(body)
	case http.StatusRequestEntityTooLarge: // the session survives
	default:
		p.c.close(metrics.CloseTransportError, noCode)
	}
	p.endPost()
	srv.respondPost(w, r, a)
}

// readBody reads the packets of a POST; the answer is what is to be said if they
// cannot be had.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (a answer, body []byte) {
	limit := int64(s.cfg.MaxPayload)
	if r.Header.Get("Content-Type") == "application/octet-stream" { // binary payloads ended with revision 3
		return answer{status: http.StatusBadRequest}, nil
	}
	if r.ContentLength > limit {
		return answer{status: http.StatusRequestEntityTooLarge}, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return answer{status: http.StatusRequestEntityTooLarge}, nil
	case err != nil:
		return answer{status: http.StatusBadRequest}, nil
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // set by boundBody
	return answer{status: http.StatusOK}, body
}

// respondPost answers a POST.
func (s *Server) respondPost(w http.ResponseWriter, r *http.Request, a answer) {
	if s.respondFailure(w, r, a) {
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html")
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(a.body)
}

// respondFailure answers a request that is refused; false if it is not.
func (s *Server) respondFailure(w http.ResponseWriter, r *http.Request, a answer) bool {
	switch {
	case a.failed != nil:
		s.engineError(w, r, *a.failed, false)
	case a.status != http.StatusOK:
		w.WriteHeader(a.status)
	default:
		return false
	}
	return true
}

// respondPoll answers a poll, compressed if that is on, worth it and welcome.
func (s *Server) respondPoll(w http.ResponseWriter, r *http.Request, a answer) {
	if s.respondFailure(w, r, a) {
		return
	}
	body, h := a.body, w.Header()
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("Cache-Control", "no-store")
	if s.cfg.GzipFrom > 0 && len(body) >= s.cfg.GzipFrom {
		h.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header) {
			var z bytes.Buffer
			zw := gzip.NewWriter(&z)
			_, _ = zw.Write(body) // a Buffer takes everything
			_ = zw.Close()
			h.Set("Content-Encoding", "gzip")
			body = z.Bytes()
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// acceptsGzip reports whether gzip is among the accepted encodings and not
// refused by a weight of 0 (RFC 9110 section 12.5.3).
func acceptsGzip(h http.Header) bool {
	for _, field := range strings.Split(strings.Join(h["Accept-Encoding"], ","), ",") {
		name, weight, _ := strings.Cut(field, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		q, ok := strings.CutPrefix(strings.TrimSpace(weight), "q=")
		v, err := strconv.ParseFloat(q, 64)
		return !ok || err == nil && v > 0
	}
	return false
}
