package main

import (
	"context"
	_ "embed"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
)

// apiPrefix begins the paths of the HTTP API.
const apiPrefix = "/api/v1/"

// Bounds of the HTTP API: a flood of requests must not be felt by clients.
const (
	apiRunning     = 256              // requests under way
	apiFleetQuery  = 16               // of them, such as ask all nodes
	apiScans       = 2                // of them, such as look at everything that the node has
	apiBodies      = 64 << 20         // bytes of bodies that are held, all together
	apiSmallBody   = 64 << 10         // of a request that is no message
	apiBatchBody   = 4 << 20          // of a batch, or the largest message if that is more
	apiPublishTime = 12 * time.Second // above the 10 s after which the bus says that it does not know
	apiFleetTime   = 8 * time.Second  // above the 5 s for which answers of all nodes are awaited
)

// openapi is the description of the API, which it serves itself.
//
//go:embed openapi.yaml
var openapi []byte

// fleet is what the API needs of the namespace of all nodes. to are the names of
// rooms, of private and users' rooms too. None waits.
type fleet interface {
	Publish(m *outgoing, done func(error)) error
	Fetch(to string, done func([]engine.RemoteSocket, error))
	Join(to string, rooms []string)
	Leave(to string, rooms []string)
	Disconnect(to string, closeConn bool)
}

// bars refuses the return of sockets that are away (state.Sessions).
type bars interface {
	BarUser(ctx context.Context, user string) error
	BarSocket(ctx context.Context, sid string) error
}

// listings is what there is on this node.
type listings interface {
	LocalRooms(after *engine.LocalRoom, limit int) ([]engine.LocalRoom, bool)
	LocalSockets(after, room string, limit int) ([]*engine.Socket, bool)
}

// api is the HTTP API for backends, docs/protocol.md. Its fields are set once; its
// methods may be called from any goroutine.
type api struct {
	fleet    fleet
	bars     bars // nil without recovery
	local    listings
	presence *presenceAPI
	info     func() nodeInfo
	drain    *drain
	conns    func() int // that are open
	node     string     // its name
	message  int64      // bytes that a body with one message may have
	log      *slog.Logger
	metrics  *metrics.Metrics

	running, queries, scans, working gate
	held                             atomic.Int64 // bytes of bodies
}

// gate bounds how many do something at a time.
type gate chan struct{}

// try takes a place if there is one.
func (g gate) try() bool {
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}

// wait takes a place when there is one, or fails with ctx.
func (g gate) wait(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g }

// newAPI completes an API of which the caller has set what it serves.
func newAPI(a *api, maxPayload int) *api {
	a.message = int64(max(1<<20, maxPayload) + apiSmallBody)
	a.running, a.queries, a.scans = make(gate, apiRunning), make(gate, apiFleetQuery), make(gate, apiScans)
	// What decodes and encodes takes turns, on no more than half of the processors.
	a.working = make(gate, max(1, runtime.GOMAXPROCS(0)/2))
	return a
}

// apiOp is one operation: what the route is, how much body it takes (0: none), how
// long it may take, and what it does.
type apiOp struct {
	method, path string // the path behind apiPrefix
	op           metrics.APIOp
	body         int64
	time         time.Duration
	gate         gate // besides running; nil: none
	do           func(c *apiCall) (any, *problem)
}

// apiCall is one request.
type apiCall struct {
	ctx    context.Context
	r      *http.Request
	query  url.Values
	body   []byte
	status int // of an answer that is not 200; 0 else
}

// ops are the operations of the API.
func (a *api) ops() []apiOp {
	batch := max(apiBatchBody, a.message)
	return []apiOp{
		{"POST", "publish", metrics.APIPublish, a.message, apiPublishTime, nil, a.publish},
		{"POST", "publish/batch", metrics.APIPublishBatch, batch, 2 * apiPublishTime, nil, a.publishBatch},

		{"GET", "users/{user}/sockets", metrics.APISockets, 0, apiFleetTime, a.queries, a.userSockets},
		{"POST", "users/{user}/disconnect", metrics.APIDisconnect, apiSmallBody, apiFleetTime, a.queries, a.disconnectUser},
		{"POST", "users/{user}/join", metrics.APIJoin, apiSmallBody, apiFleetTime, a.queries, a.joinUser},
		{"POST", "users/{user}/leave", metrics.APILeave, apiSmallBody, apiFleetTime, a.queries, a.leaveUser},

		{"GET", "sockets", metrics.APISockets, 0, apiFleetTime, a.scans, a.listSockets},
		{"GET", "sockets/{socket}", metrics.APISockets, 0, apiFleetTime, a.queries, a.socket},
		{"POST", "sockets/{socket}/disconnect", metrics.APIDisconnect, apiSmallBody, apiFleetTime, a.queries, a.disconnectSocket},
		{"POST", "sockets/{socket}/join", metrics.APIJoin, apiSmallBody, apiFleetTime, a.queries, a.joinSocket},
		{"POST", "sockets/{socket}/leave", metrics.APILeave, apiSmallBody, apiFleetTime, a.queries, a.leaveSocket},

		{"GET", "rooms", metrics.APIRooms, 0, apiFleetTime, a.scans, a.listRooms},
		{"GET", "node", metrics.APINode, 0, apiFleetTime, nil, a.nodeInfo},
		{"GET", "drain", metrics.APINode, 0, apiFleetTime, nil, a.showDrain},
		{"POST", "drain", metrics.APINode, 0, apiFleetTime, nil, a.beginDrain},
		{"GET", "openapi.yaml", metrics.APIOther, 0, apiFleetTime, nil, nil},
	}
}

// handler serves everything below apiPrefix, for who has the token.
func (a *api) handler(token secret) http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{} // by path
	for _, o := range a.ops() {
		path := apiPrefix + o.path
		methods[path] = append(methods[path], o.method)
		if o.do == nil {
			mux.HandleFunc(o.method+" "+path, a.serveOpenAPI)
			continue
		}
		mux.HandleFunc(o.method+" "+path, func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, &o) })
	}
	for path, allowed := range methods {
		slices.Sort(allowed)
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { a.refuseMethod(w, r, allowed) })
	}
	for path, read := range a.presence.routes() {
		path = strings.TrimSuffix(apiPrefix, "/") + path
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			a.serve(w, r, &apiOp{op: metrics.APIPresence, time: readTimeout, do: func(c *apiCall) (any, *problem) {
				v, err := read(c.ctx, c.r, c.query)
				return v, a.presence.problem(err)
			}})
		})
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { a.refuseMethod(w, r, []string{"GET"}) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.answer(w, metrics.APIOther, time.Now(), 0, problemf(apiNotFound, "there is no %s; %sopenapi.yaml says what there is", shorten(r.URL.Path), apiPrefix))
	})
	admits := bearerCheck(token)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !admits(r) {
			w.Header().Set("WWW-Authenticate", wwwAuthenticate)
			a.answer(w, metrics.APIOther, time.Now(), 0, problemf(apiUnauthorized, "ADMIN_TOKEN is required as a bearer token"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (a *api) refuseMethod(w http.ResponseWriter, r *http.Request, allowed []string) {
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	a.answer(w, metrics.APIOther, time.Now(), 0, problemf(apiMethod, "%s is not supported here, only %s", shorten(r.Method), strings.Join(allowed, ", ")))
}

// serve carries out one operation, within the bounds.
func (a *api) serve(w http.ResponseWriter, r *http.Request, o *apiOp) {
	began := time.Now()
	busy := problemf(apiBusy, "%s", busyText)
	if !a.running.try() {
		a.answer(w, o.op, began, 0, busy)
		return
	}
	defer a.running.leave()
	a.metrics.APIRunning.Inc()
	defer a.metrics.APIRunning.Dec()
	if o.gate != nil {
		if !o.gate.try() {
			a.answer(w, o.op, began, 0, busy)
			return
		}
		defer o.gate.leave()
	}
	ctx, cancel := context.WithTimeout(r.Context(), o.time)
	defer cancel()
	call := &apiCall{ctx: ctx, r: r}
	var p *problem
	if call.query, p = queryOf(r); p == nil {
		var release func()
		call.body, release, p = a.read(w, r, o.body)
		defer release()
	}
	var v any = p
	if p == nil {
		if v, p = o.do(call); p != nil {
			v = p
		}
	}
	a.answer(w, o.op, began, call.status, v)
}

func queryOf(r *http.Request) (url.Values, *problem) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, problemf(apiMalformed, "the query is malformed: %v", err)
	}
	return q, nil
}

// read reads a body of up to limit bytes. What all requests hold together is
// bounded; release gives it back.
func (a *api) read(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), p *problem) {
	release = func() {}
	tooLarge := problemf(apiTooLarge, "the body is larger than %d bytes", limit)
	switch {
	case limit == 0:
		return nil, release, nil
	case r.ContentLength > limit:
		return nil, release, tooLarge
	}
	if p = checkJSONType(r.Header.Get("Content-Type")); p != nil {
		return nil, release, p
	}
	size := r.ContentLength
	if size < 0 { // it is not said
		size = limit
	}
	release = func() { a.held.Add(-size) }
	if a.held.Add(size) > apiBodies {
		return nil, release, problemf(apiBusy, "%s", busyText)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	// The listener's ReadTimeout is for the request; beyond, it would end r.Context.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // tests have none
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return nil, release, tooLarge
	}
	if err != nil {
		return nil, release, problemf(apiMalformed, "the body did not arrive whole")
	}
	return body, release, nil
}

// work runs f, which takes processor time, in its turn.
func (a *api) work(ctx context.Context, f func() *problem) *problem {
	if a.working.wait(ctx) != nil {
		return problemf(apiBusy, "%s", busyText)
	}
	defer a.working.leave()
	return f()
}

// answer writes and counts what came of a request: a *problem, or what is encoded
// as JSON.
func (a *api) answer(w http.ResponseWriter, op metrics.APIOp, began time.Time, status int, v any) {
	if status == 0 {
		status = http.StatusOK
	}
	if p, failed := v.(*problem); failed {
		status = apiStatus[p.Code]
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		v = struct {
			Error *problem `json:"error"`
		}{p}
	}
	writeJSON(w, status, v)
	a.metrics.API[op][metrics.APIClassOf(status)].Inc()
	a.metrics.APISeconds[op].Observe(time.Since(began).Seconds())
}

func (a *api) serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openapi)
	a.metrics.API[metrics.APIOther][metrics.APISucceeded].Inc()
}
