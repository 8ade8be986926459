package state

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stellara/edge/socketio"
)

// modelRequest is what a request should be, worked out anew from everything
// that happened to it.
type modelRequest struct {
	kind     socketio.RequestType
	patience int
	deadline int
	log      []string // "count N", "sockets", "rooms", "emit", "clients N", "ack", "time T"
}

// outcome replays the log.
func (m *modelRequest) outcome() (ended string, acks int) {
	counted, nodes, answers, clients := false, 0, 0, 0
	for _, line := range m.log {
		word, number, _ := strings.Cut(line, " ")
		n, _ := strconv.Atoi(number)
		hit := map[string]socketio.RequestType{"sockets": fetch, "rooms": allRooms, "emit": emit, "clients": broadcast, "ack": broadcast}
		switch {
		case word == "time" && !counted && n >= min(m.patience, m.deadline):
			return "unavailable", acks
		case word == "time" && counted && n >= m.deadline:
			return "late", acks
		case word == "count":
			counted, nodes = true, n
			if m.kind == emit {
				nodes--
			}
		case word == "time" || !counted || hit[word] != m.kind:
			continue
		case word == "ack":
			acks++
		case word == "clients":
			answers++
			clients += n
		default:
			answers++
		}
		if counted && answers >= nodes && (m.kind != broadcast || acks >= clients) {
			return "complete", acks
		}
	}
	return "", acks
}

func TestRequestTableAgainstModel(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		table := newRequestTable(1 << 20)
		models := make(map[string]*modelRequest)
		ended := make(map[string]string)
		acks := make(map[string]int)
		now := 0
		for step := range 200 {
			id := "R" + strconv.Itoa(random.IntN(12))
			m := models[id]
			happened := ""
			switch action := random.IntN(10); {
			case m == nil:
				kind := []socketio.RequestType{fetch, allRooms, emit, broadcast}[random.IntN(4)]
				m = &modelRequest{kind: kind, patience: now + 30, deadline: now + 10 + random.IntN(90)}
				models[id] = m
				r := newTableRequest(id, kind)
				r.patience, r.deadline = tableTime(m.patience), tableTime(m.deadline)
				table.start(r)
			case action == 0:
				now += random.IntN(20)
				table.due(tableTime(now))
				for _, other := range models {
					other.log = append(other.log, "time "+strconv.Itoa(now))
				}
			case action <= 2:
				n := 1 + random.IntN(4)
				if r := table.byID[id]; r != nil && !r.counted {
					table.count(r, n)
					happened = "count " + strconv.Itoa(n)
				}
			default:
				clients := random.IntN(3)
				answer := []struct{ payload, line string }{
					{`{"requestId":"` + id + `","sockets":[{"id":"s` + strconv.Itoa(step) + `"}]}`, "sockets"},
					{`{"requestId":"` + id + `","rooms":["a"]}`, "rooms"},
					{`{"requestId":"` + id + `","type":6,"data":1}`, "emit"},
					{`{"requestId":"` + id + `","type":8,"clientCount":` + strconv.Itoa(clients) + `}`, "clients " + strconv.Itoa(clients)},
					{string(socketio.AppendBroadcastAck(nil, id, nil)), "ack"},
				}[random.IntN(5)]
				table.answer(parsed(t, answer.payload), len(answer.payload))
				happened = answer.line
			}
			if happened != "" {
				m.log = append(m.log, happened)
			}
			for _, e := range table.take() {
				id := e.request.id
				switch {
				case ended[id] != "":
					t.Fatalf("seed %d: %s is told something after its end", seed, id)
				case e.ack:
					acks[id]++
				case e.err == nil:
					ended[id] = "complete"
				case errors.Is(e.err, ErrUnavailable):
					ended[id] = "unavailable"
				default:
					ended[id] = "late"
				}
			}
			for id, m := range models {
				want, n := m.outcome()
				if ended[id] != want || acks[id] != n {
					t.Fatalf("seed %d, step %d: %s (type %d, %v) ended %q with %d acks, want %q with %d", seed, step, id, m.kind, m.log, ended[id], acks[id], want, n)
				}
			}
			open := 0
			for _, r := range table.byID {
				open += r.size
			}
			if table.size != open {
				t.Fatalf("seed %d: %d bytes are held, %d by open requests", seed, table.size, open)
			}
		}
	}
}
