package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"
)

// object is what a JSON object may have: each field's name, and where its value
// goes. A value goes to a *string, *bool, *[]string, *[]json.RawMessage, or to an
// object of its own. Reading is strict: names are exact, known, and there once, and
// null is no value. (encoding/json takes names in any case, and the last of several.)
type object map[string]any

// decodeObject reads a whole body, which is one object.
func decodeObject(body []byte, into object) *problem {
	if len(bytes.TrimSpace(body)) == 0 {
		return problemf(apiMalformed, "the body is empty; it must be a JSON object")
	}
	if !utf8.Valid(body) { // encoding/json lets it pass, and browsers close a WebSocket for it (RFC 6455 section 8.1)
		return problemf(apiMalformed, "the body is not UTF-8")
	}
	if err := json.Unmarshal(body, new(json.RawMessage)); err != nil {
		return problemf(apiMalformed, "the body is not JSON: %s", jsonError(err))
	}
	return into.decode("", bytes.TrimSpace(body))
}

// decode reads valid JSON; path is where in the body it is, with a dot at the end.
func (o object) decode(path string, raw []byte) *problem {
	if len(raw) == 0 || raw[0] != '{' {
		return invalidf("%s is not an object", nameOf(path))
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	_, _ = d.Token() // the brace
	seen := make(map[string]bool, len(o))
	for d.More() {
		token, err := d.Token()
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return problemf(apiMalformed, "the body is not JSON: %s", jsonError(err))
		}
		name, _ := token.(string)
		into, known := o[name]
		switch {
		case !known:
			return invalidf("unknown field %q", shorten(path+name))
		case seen[name]:
			return invalidf("%s is there twice", path+name)
		}
		seen[name] = true
		if p := decodeValue(path+name, value, into); p != nil {
			return p
		}
	}
	return nil
}

// decodeValue reads one value.
func decodeValue(name string, raw json.RawMessage, into any) *problem {
	null, what := string(raw) == "null", ""
	switch v := into.(type) {
	case object:
		return v.decode(name+".", raw)
	case *string:
		what = "a string"
	case *bool:
		what = "true or false"
	case *[]string:
		what = "a list of strings"
		var list []*string // null is none
		if !null && json.Unmarshal(raw, &list) == nil {
			*v = make([]string, 0, len(list))
			for _, s := range list {
				if s == nil {
					return invalidf("%s is not %s", name, what)
				}
				*v = append(*v, *s)
			}
			return nil
		}
		return invalidf("%s is not %s", name, what)
	case *[]json.RawMessage:
		what = "a list"
	}
	if null || json.Unmarshal(raw, into) != nil {
		return invalidf("%s is not %s", name, what)
	}
	return nil
}

// nameOf is the path of an object for people.
func nameOf(path string) string {
	if path == "" {
		return "the body"
	}
	return strings.TrimSuffix(path, ".")
}

// jsonError is a syntax error with its place.
func jsonError(err error) string {
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("%s, at byte %d", syntax.Error(), syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too soon"
	}
	return "it cannot be read"
}

// checkJSONType refuses a body that says it is something else. One that says
// nothing is taken.
func checkJSONType(contentType string) *problem {
	if contentType == "" {
		return nil
	}
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "application/json" {
		return problemf(apiMediaType, "Content-Type %q is not application/json", shorten(contentType))
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return problemf(apiMediaType, "the charset %q is not utf-8", shorten(charset))
	}
	return nil
}

// maxIdempotencyKey bounds a key, in bytes.
const maxIdempotencyKey = 128

// idempotencyKey is the header's value, "" if there is none: the bare text, or
// quoted as a string of RFC 9651, which the draft asks for
// (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/).
func idempotencyKey(values []string) (string, *problem) {
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", invalidf("there is more than one Idempotency-Key")
	}
	key := strings.TrimSpace(values[0])
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	if key == "" || len(key) > maxIdempotencyKey {
		return "", invalidf("the Idempotency-Key has %d bytes; it must have 1 to %d", len(key), maxIdempotencyKey)
	}
	for i := range len(key) {
		if key[i] < 0x21 || key[i] > 0x7e || key[i] == '"' || key[i] == '\\' {
			return "", invalidf("the Idempotency-Key contains %q: it must be visible ASCII without quotes and backslashes", key[i:i+1])
		}
	}
	return key, nil
}
