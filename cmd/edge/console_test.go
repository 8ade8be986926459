package main

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/state"
)

func TestConsolePage(t *testing.T) {
	page := consolePage()
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	index := get("/")
	if index.Code != http.StatusOK || !strings.HasPrefix(index.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("/: %d, %s", index.Code, index.Header().Get("Content-Type"))
	}
	err := fs.WalkDir(consoleFiles, "console", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".html") {
			return err
		}
		w := get("/" + path)
		if w.Code != http.StatusOK || w.Header().Get("Content-Security-Policy") != consolePolicy || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d, %v", path, w.Code, w.Header())
		}
		// Nothing comes from elsewhere, and the policy would forbid what is inline.
		text, _ := io.ReadAll(w.Body)
		for _, bad := range []string{"innerHTML", "eval(", "@import", "src=\"http"} {
			if strings.Contains(string(text), bad) {
				t.Errorf("%s contains %s", path, bad)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if w := get("/console/none.js"); w.Code != http.StatusNotFound {
		t.Errorf("a file that is not there: %d", w.Code)
	}
}

func TestIssueTicket(t *testing.T) {
	issued := newTickets(time.Now)
	h := issueTicket(issued, state.ValidID)
	for _, c := range []struct {
		body string
		code int
	}{
		{`{"user":"ada"}`, http.StatusOK},
		{`{"user":""}`, http.StatusBadRequest},
		{`{"user":"a{b"}`, http.StatusBadRequest},
		{`{"user":7}`, http.StatusBadRequest},
		{``, http.StatusBadRequest},
		{`{"user":"` + strings.Repeat("a", maxTicketBody) + `"}`, http.StatusBadRequest},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/console/tickets", strings.NewReader(c.body)))
		if w.Code != c.code {
			t.Errorf("%.40s: %d %s", c.body, w.Code, w.Body)
		}
	}
	if len(issued.issued) != 1 {
		t.Errorf("%d tickets issued", len(issued.issued))
	}
}

func TestConsoleSocketNeedsATicket(t *testing.T) {
	issued := newTickets(time.Now)
	ticket := issued.issue("ada")
	var passed *http.Request
	h := consoleSocket(issued, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { passed = r }))
	ask := func(query string) int {
		r := httptest.NewRequest(http.MethodGet, "/console/socket.io/?"+query, nil)
		r.Header.Set("Origin", "http://elsewhere.example")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for _, query := range []string{"EIO=4&transport=websocket", "EIO=4&transport=websocket&ticket=", "EIO=4&transport=websocket&ticket=!" + ticket[1:]} {
		if code := ask(query); code != http.StatusUnauthorized || passed != nil {
			t.Fatalf("%s: %d, passed on: %v", query, code, passed != nil)
		}
	}
	if code := ask("EIO=4&transport=websocket&ticket=" + ticket); code != http.StatusOK || passed == nil {
		t.Fatalf("with a ticket: %d", code)
	}
	if passed.URL.Path != socketIOPath || passed.URL.RawQuery != "EIO=4&transport=websocket" || passed.Header.Get("Origin") != "" {
		t.Errorf("the clients' front door was asked %v with Origin %q", passed.URL, passed.Header.Get("Origin"))
	}
}
