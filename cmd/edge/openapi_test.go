package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// spec is a node of openapi.yaml.
type spec = map[string]any

func loadSpec(t *testing.T) spec {
	t.Helper()
	var s spec
	if err := yaml.Unmarshal(openapi, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// resolve follows a $ref.
func (d *document) resolve(v any) spec {
	d.t.Helper()
	m, ok := v.(spec)
	if !ok {
		d.t.Fatalf("%v is not an object", v)
	}
	ref, ok := m["$ref"].(string)
	if !ok {
		return m
	}
	at := any(d.root)
	for _, name := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		if at, ok = at.(spec)[name]; !ok {
			d.t.Fatalf("%s is not there", ref)
		}
	}
	d.used[ref] = true
	return d.resolve(at)
}

// document is the description, and what of its components was referred to.
type document struct {
	t    *testing.T
	root spec
	used map[string]bool
}

// operation is one of its operations.
type operation struct {
	method, path string
	spec
}

func (d *document) operations() (all []operation) {
	for path, item := range d.root["paths"].(spec) {
		for method, o := range item.(spec) {
			all = append(all, operation{strings.ToUpper(method), path, o.(spec)})
		}
	}
	last := func(o operation) bool { return o.path == "/api/v1/drain" } // nothing works after it
	slices.SortFunc(all, func(a, b operation) int {
		if last(a) != last(b) {
			if last(a) {
				return 1
			}
			return -1
		}
		return strings.Compare(a.path+a.method, b.path+b.method)
	})
	return all
}

// check says what of a value is not as a schema has it: the part of JSON Schema that the description uses.
func (d *document) check(where string, schema any, v any) {
	d.t.Helper()
	s := d.resolve(schema)
	kind := map[string]bool{"": true}
	switch x := v.(type) {
	case string:
		kind["string"] = true
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(x) {
			d.t.Errorf("%s: %q does not match %s", where, x, p)
		}
		if list, ok := s["enum"].([]any); ok && !slices.Contains(list, any(x)) {
			d.t.Errorf("%s: %q is none of %v", where, x, list)
		}
	case bool:
		kind["boolean"] = true
	case float64:
		kind["number"], kind["integer"] = true, x == float64(int64(x))
	case []any:
		kind["array"] = true
		for i, e := range x {
			if s["items"] != nil {
				d.check(fmt.Sprintf("%s[%d]", where, i), s["items"], e)
			}
		}
	case map[string]any:
		kind["object"] = true
		d.checkObject(where, s, x)
	}
	if want, _ := s["type"].(string); !kind[want] {
		d.t.Errorf("%s: %v is not of type %s", where, v, want)
	}
}

func (d *document) checkObject(where string, s spec, v map[string]any) {
	d.t.Helper()
	known, _ := s["properties"].(spec)
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			d.t.Errorf("%s: %s is missing", where, name)
		}
	}
	for name, value := range v {
		schema, ok := known[name]
		if !ok {
			if schema, ok = s["additionalProperties"].(spec); !ok {
				d.t.Errorf("%s: %s is not in the description", where, name)
				continue
			}
		}
		d.check(where+"."+name, schema, value)
	}
}

// decoded is a value of the file as encoding/json would decode it.
func decoded(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestOpenAPIRoutes: the description has every route, and no other; every code, and
// no other; and what is defined in it is used.
func TestOpenAPIRoutes(t *testing.T) {
	d := &document{t, loadSpec(t), map[string]bool{}}
	a := newTestAPI()
	want := map[string]bool{}
	for _, o := range a.ops() {
		want[o.method+" "+apiPrefix+o.path] = true
	}
	for path := range a.presence.routes() {
		want["GET /api/v1"+path] = true
	}
	for _, o := range d.operations() {
		route := o.method + " " + o.path
		if !want[route] {
			t.Errorf("%s is described and not served", route)
		}
		delete(want, route)
		for _, p := range items(o.spec["parameters"]) {
			d.resolve(p)
		}
		if o.spec["requestBody"] != nil {
			d.resolve(o.spec["requestBody"])
		}
		for status, r := range o.spec["responses"].(spec) {
			for kind, content := range d.resolve(r)["content"].(spec) {
				content := content.(spec)
				if kind != "application/json" {
					continue
				}
				if content["example"] == nil {
					t.Errorf("%s %s has no example", route, status)
				}
				d.check(route+" "+status, content["schema"], decoded(t, content["example"]))
			}
		}
	}
	for route := range want {
		t.Errorf("%s is served and not described", route)
	}
	codes := d.resolve(spec{"$ref": "#/components/schemas/Error"})["properties"].(spec)["code"].(spec)["enum"].([]any)
	described := map[apiCode]bool{}
	for _, code := range codes {
		described[apiCode(code.(string))] = true
	}
	for code := range apiStatus {
		if !described[code] {
			t.Errorf("the code %s is not described", code)
		}
		delete(described, code)
	}
	for code := range described {
		t.Errorf("the code %s is described and not used", code)
	}
	for _, o := range d.operations() { // what bodies refer to
		if o.spec["requestBody"] != nil {
			content := d.resolve(o.spec["requestBody"])["content"].(spec)["application/json"].(spec)
			for name, e := range content["examples"].(spec) {
				d.check(o.path+" "+name, content["schema"], decoded(t, e.(spec)["value"]))
			}
		}
	}
	for kind, components := range d.root["components"].(spec) {
		if kind == "securitySchemes" {
			continue
		}
		for name := range components.(spec) {
			if ref := "#/components/" + kind + "/" + name; !d.used[ref] && name != "Selection" {
				t.Errorf("%s is not used", ref)
			}
		}
	}
}

func items(v any) []any {
	l, _ := v.([]any)
	return l
}

// TestOpenAPIExamples sends every example to a node, and compares what it answers
// with the description.
func TestOpenAPIExamples(t *testing.T) {
	n := startNode(t)
	d := &document{t, loadSpec(t), map[string]bool{}}
	for _, o := range d.operations() {
		// A client that is who the examples are about; some of them end it.
		c, hello := n.connect(`{"userId":"ada"}`)
		var open struct{ Sid string }
		if err := json.Unmarshal([]byte(hello[2:]), &open); err != nil {
			t.Fatal(hello)
		}
		c.Text(`421["join","lobby"]`)
		c.expect("431")
		bodies := map[string][]byte{"": nil}
		if o.spec["requestBody"] != nil {
			body := d.resolve(o.spec["requestBody"])
			for name, e := range body["content"].(spec)["application/json"].(spec)["examples"].(spec) {
				b, _ := json.Marshal(e.(spec)["value"])
				bodies[name] = b
			}
			if body["required"] == true {
				delete(bodies, "")
			}
		}
		for _, name := range slices.Sorted(maps.Keys(bodies)) {
			if strings.HasSuffix(o.path, "disconnect") && name == "" && len(bodies) > 1 {
				continue // the client is needed once; the other body follows
			}
			d.example(n, o, open.Sid, bodies[name])
		}
		_ = c.Conn.Close()
	}
}

// example makes one request of an operation. sid is the socket that there is.
func (d *document) example(n *testNode, o operation, sid string, body []byte) {
	t := d.t
	t.Helper()
	path, query := o.path, url.Values{}
	for _, p := range items(o.spec["parameters"]) {
		p := d.resolve(p)
		name, example := p["name"].(string), p["example"]
		switch p["in"] {
		case "path":
			value := example.(string)
			if name == "socket" {
				value = sid
			}
			path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
		case "query":
			for _, v := range items(example) {
				query.Add(name, fmt.Sprint(v))
			}
			if example != nil && len(items(example)) == 0 {
				query.Set(name, fmt.Sprint(example))
			}
		}
	}
	target := "http://" + n.adminListener.Addr().String() + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(t.Context(), o.method, target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	what := fmt.Sprintf("%s %s %s", o.method, path, body)
	described, ok := o.spec["responses"].(spec)[fmt.Sprint(resp.StatusCode)]
	if !ok || resp.StatusCode >= 300 {
		t.Errorf("%s: %d %s", what, resp.StatusCode, answer)
		return
	}
	kind := resp.Header.Get("Content-Type")
	content, ok := d.resolve(described)["content"].(spec)[kind].(spec)
	if !ok {
		t.Errorf("%s: content type %s", what, kind)
		return
	}
	if kind != "application/json" {
		if !bytes.Equal(answer, openapi) {
			t.Errorf("%s: %d bytes, not the description", what, len(answer))
		}
		return
	}
	var v any
	if err := json.Unmarshal(answer, &v); err != nil {
		t.Errorf("%s: %s", what, answer)
		return
	}
	d.check(what, content["schema"], v)
}
