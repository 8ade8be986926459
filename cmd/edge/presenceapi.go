package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/stellara/edge/state"
)

// presenceReader is what the HTTP API needs of *state.Presence. All wait for Redis.
type presenceReader interface {
	Sockets(ctx context.Context, users []string) ([]string, error)
	Room(ctx context.Context, room string) (state.Snapshot, error)
	RoomPage(ctx context.Context, room string, cursor uint64, limit int) (state.Page, error)
	OnlinePage(ctx context.Context, cursor uint64, limit int) (state.Page, error)
	Counts(ctx context.Context, rooms []string) (online int, inRooms []int, err error)
}

// maxAsked bounds the ids of one request, and the users of one page.
const maxAsked = 1_000

// presenceAPI answers backends who is online and where, as JSON.
type presenceAPI struct {
	presence presenceReader
	log      *slog.Logger
}

// presenceRead answers one request, whose query is decoded. An error that is no
// badRequest is Redis's, whose words stay in the log.
type presenceRead func(ctx context.Context, r *http.Request, q url.Values) (any, error)

// routes are the reads by their paths, which are served as they are, and as a part
// of the HTTP API.
func (a *presenceAPI) routes() map[string]presenceRead {
	return map[string]presenceRead{
		"/presence/users/{user}": a.user,
		"/presence/users":        a.users,
		"/presence/rooms/{room}": a.room,
		"/presence/online":       a.online,
		"/presence/counts":       a.counts,
	}
}

// presenceHandler serves /presence/ for backends (docs/protocol.md).
func presenceHandler(p presenceReader, log *slog.Logger) http.Handler {
	a := &presenceAPI{p, log}
	mux := http.NewServeMux()
	for path, read := range a.routes() {
		mux.HandleFunc(path, a.get(read))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, apiError{"there is /presence/users/<user>, /presence/users, /presence/rooms/<room>, /presence/online and /presence/counts"})
	})
	return mux
}

// What is answered.
type (
	apiUser struct {
		User   string `json:"user"`
		Online bool   `json:"online"`
		Socket string `json:"socket,omitempty"`
	}
	apiUsers struct {
		Users []apiUser `json:"users"`
	}
	apiRoom struct {
		Room  string   `json:"room"`
		Count int      `json:"count"`
		Users []string `json:"users"`
		Seq   uint64   `json:"seq"`
		Epoch string   `json:"epoch"`
	}
	apiPage struct {
		Room  string   `json:"room,omitempty"` // empty for all who are online
		Count int      `json:"count"`
		Users []string `json:"users"`
		Next  string   `json:"next,omitempty"` // a string: cursors exceed what JavaScript's numbers hold
	}
	apiCounts struct {
		Online int            `json:"online"`
		Rooms  map[string]int `json:"rooms"`
	}
	apiError struct {
		Error string `json:"error"`
	}
)

// badRequest is an error that the asker can mend; it is told the text.
type badRequest struct{ error }

func bad(format string, args ...any) error { return badRequest{fmt.Errorf(format, args...)} }

// problem says what an error of a read is, nil for nil.
func (a *presenceAPI) problem(err error) *problem {
	switch {
	case err == nil:
		return nil
	case errors.As(err, &badRequest{}):
		return invalidf("%v", err)
	case errors.Is(err, state.ErrUnavailable):
		return problemf(apiUnavailable, "redis is not reachable")
	}
	a.log.Debug("presence read failed", "error", err)
	return problemf(apiUnavailable, "presence could not be read from redis")
}

// get makes a handler of read, which has readTimeout.
func (a *presenceAPI) get(read presenceRead) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			writeJSON(w, http.StatusMethodNotAllowed, apiError{r.Method + " is not supported, only GET"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
		defer cancel()
		q, p := queryOf(r)
		if p != nil {
			writeJSON(w, http.StatusBadRequest, apiError{p.Message})
			return
		}
		v, err := read(ctx, r, q)
		if p := a.problem(err); p != nil {
			writeJSON(w, apiStatus[p.Code], apiError{p.Message})
			return
		}
		writeJSON(w, http.StatusOK, v)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // names are shown as they are; this is no HTML
	_ = e.Encode(v)        // the asker may be gone
}

// user answers /presence/users/{user}.
func (a *presenceAPI) user(ctx context.Context, r *http.Request, _ url.Values) (any, error) {
	user := r.PathValue("user")
	if err := checkID("user", user); err != nil {
		return nil, err
	}
	users, err := a.lookup(ctx, []string{user})
	if err != nil {
		return nil, err
	}
	return users[0], nil
}

// users answers /presence/users?id=…&id=…
func (a *presenceAPI) users(ctx context.Context, _ *http.Request, q url.Values) (any, error) {
	ids := q["id"]
	if len(ids) == 0 {
		return nil, bad("no user id is asked for: /presence/users?id=<user>&id=<user>")
	}
	if err := checkIDs("user", ids); err != nil {
		return nil, err
	}
	users, err := a.lookup(ctx, ids)
	if err != nil {
		return nil, err
	}
	return apiUsers{users}, nil
}

func (a *presenceAPI) lookup(ctx context.Context, ids []string) ([]apiUser, error) {
	sockets, err := a.presence.Sockets(ctx, ids)
	if err != nil {
		return nil, err
	}
	users := make([]apiUser, len(ids))
	for i, id := range ids {
		users[i] = apiUser{User: id, Online: sockets[i] != "", Socket: sockets[i]}
	}
	return users, nil
}

// room answers /presence/rooms/{room}: a small room whole, a page of it where
// one is asked for, or the first page of a large one.
func (a *presenceAPI) room(ctx context.Context, r *http.Request, q url.Values) (any, error) {
	room := r.PathValue("room")
	if err := checkID("room", room); err != nil {
		return nil, err
	}
	cursor, limit, err := pageOf(q)
	if err != nil {
		return nil, err
	}
	if !q.Has("cursor") && !q.Has("limit") {
		snap, err := a.presence.Room(ctx, room)
		if err != nil {
			return nil, err
		}
		if snap.Count <= maxAsked && len(snap.Users) == snap.Count {
			return apiRoom{room, snap.Count, orEmpty(snap.Users), snap.Seq, snap.Epoch}, nil
		}
	}
	page, err := a.presence.RoomPage(ctx, room, cursor, limit)
	return answerPage(room, page), err
}

// online answers /presence/online.
func (a *presenceAPI) online(ctx context.Context, _ *http.Request, q url.Values) (any, error) {
	cursor, limit, err := pageOf(q)
	if err != nil {
		return nil, err
	}
	page, err := a.presence.OnlinePage(ctx, cursor, limit)
	return answerPage("", page), err
}

func answerPage(room string, p state.Page) apiPage {
	page := apiPage{Room: room, Count: p.Count, Users: orEmpty(p.Users)}
	if p.Next != 0 {
		page.Next = strconv.FormatUint(p.Next, 10)
	}
	return page
}

// counts answers /presence/counts?room=…&room=…
func (a *presenceAPI) counts(ctx context.Context, _ *http.Request, q url.Values) (any, error) {
	rooms := q["room"]
	if err := checkIDs("room", rooms); err != nil {
		return nil, err
	}
	online, inRooms, err := a.presence.Counts(ctx, rooms)
	if err != nil {
		return nil, err
	}
	counts := apiCounts{online, make(map[string]int, len(rooms))}
	for i, room := range rooms {
		counts.Rooms[room] = inRooms[i]
	}
	return counts, nil
}

// pageOf is where a page begins and how many users are wanted in it.
func pageOf(q url.Values) (cursor uint64, limit int, err error) {
	limit = maxAsked
	if q.Has("limit") {
		if limit, err = strconv.Atoi(q.Get("limit")); err != nil || limit < 1 || limit > maxAsked {
			return 0, 0, bad("limit %q is not a number from 1 to %d", shorten(q.Get("limit")), maxAsked)
		}
	}
	if q.Has("cursor") {
		if cursor, err = strconv.ParseUint(q.Get("cursor"), 10, 64); err != nil {
			return 0, 0, bad("cursor %q is not 0 and not the next of a page", shorten(q.Get("cursor")))
		}
	}
	return cursor, limit, nil
}

// checkID refuses what cannot be part of a presence key.
func checkID(kind, id string) error {
	if err := state.ValidID(kind, id); err != nil {
		return badRequest{errors.New(strings.TrimPrefix(err.Error(), "state: "))}
	}
	return nil
}

// checkIDs is checkID for up to maxAsked ids, and says which one is wrong.
func checkIDs(kind string, ids []string) error {
	if len(ids) > maxAsked {
		return bad("%d %ss are asked for, at most %d are answered", len(ids), kind, maxAsked)
	}
	for i, id := range ids {
		if err := checkID(kind, id); err != nil {
			return bad("%s number %d: %w", kind, i+1, err)
		}
	}
	return nil
}

// orEmpty makes an empty list [] in JSON and not null.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// shorten keeps an error readable.
func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
