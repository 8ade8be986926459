package state

import (
	"fmt"
	"unicode/utf8"
)

// maxID bounds user ids, socket ids and room names in bytes.
const maxID = 255

// ValidID tells whether id can be part of the presence keys. Braces would move
// the keys beside a presence key to another hash slot; control characters and
// invalid UTF-8 have no place in names that other services read. kind is what
// the error calls it: "user", "room", "socket".
func ValidID(kind, id string) error {
	switch {
	case id == "":
		return fmt.Errorf("state: %s id is empty", kind)
	case len(id) > maxID:
		return fmt.Errorf("state: %s id is %d bytes long, more than %d", kind, len(id), maxID)
	case !utf8.ValidString(id):
		return fmt.Errorf("state: %s id is not valid UTF-8", kind)
	}
	for _, r := range id {
		switch {
		case r == '{' || r == '}':
			return fmt.Errorf("state: %s id contains a brace", kind)
		case r < 0x20 || (r >= 0x7f && r < 0xa0):
			return fmt.Errorf("state: %s id contains the control character %U", kind, r)
		}
	}
	return nil
}
