package socketio

import (
	"errors"
	"fmt"
)

// placeholder collects what one JSON object says about being a placeholder, {"_placeholder":true,"num":k}. As in
// JavaScript, the members may come in any order, the last of several equal names counts, and further members are
// ignored.
type placeholder struct {
	marked bool   // "_placeholder" is true
	num    []byte // raw value of "num", nil if absent
}

// member notes one member of the object: its raw name, whether that contains escapes, and its raw value.
func (p *placeholder) member(name []byte, escaped bool, value []byte) {
	switch {
	case textIs(name, escaped, "_placeholder"):
		p.marked = string(value) == "true"
	case textIs(name, escaped, "num"):
		p.num = value
	}
}

// attachmentUse tracks which of n attachments placeholders have referred to. Each may be used once: the reference
// encoder never repeats a number, and repeating one would multiply the attachment wherever the packet is expanded.
type attachmentUse struct {
	n    int
	used uint16 // bit k: attachment k has its placeholder
}

// take checks a placeholder's number and marks the attachment as used.
func (u *attachmentUse) take(num []byte) (int, error) {
	if num == nil {
		return 0, errors.New("socketio: placeholder without number")
	}
	// n ≤ MaxAttachments, so a valid number has one digit.
	if len(num) != 1 || !isDigit(num[0]) || int(num[0]-'0') >= u.n {
		return 0, fmt.Errorf("socketio: placeholder number %.20s is not one of %d attachments", num, u.n)
	}
	k := int(num[0] - '0')
	if u.used&(1<<k) != 0 {
		return 0, fmt.Errorf("socketio: attachment %d has two placeholders", k)
	}
	u.used |= 1 << k
	return k, nil
}

// CheckPlaceholders checks that every placeholder in the JSON data of a binary packet names one of its n attachments,
// 0 … n-1, and none twice. Attachments without a placeholder are allowed, as is empty data. n is at most MaxAttachments.
func CheckPlaceholders(data []byte, n int) error {
	if n > MaxAttachments {
		return tooManyAttachments(n)
	}
	if len(data) == 0 {
		return nil
	}
	c := placeholderCheck{scanner: newScanner(data), use: attachmentUse{n: n}}
	c.space()
	if c.value(); c.problem == "" && c.invalid == nil {
		c.end()
	}
	if c.invalid != nil {
		return c.invalid
	}
	return c.err()
}

func tooManyAttachments(n int) error {
	return fmt.Errorf("socketio: attachment count %d exceeds %d", n, MaxAttachments)
}

// placeholderCheck is a scanner that looks at every object.
type placeholderCheck struct {
	scanner
	use     attachmentUse
	invalid error
}

func (c *placeholderCheck) value() bool {
	if c.pos >= len(c.data) {
		return c.fail("unexpected end")
	}
	switch c.data[c.pos] {
	case '{':
		return c.object()
	case '[':
		for more := c.open(']'); more; more = c.next(']') {
			if !c.value() {
				return false
			}
		}
		return c.problem == ""
	}
	return c.scanner.value()
}

func (c *placeholderCheck) object() bool {
	before := c.use.used
	var p placeholder
	for more := c.open('}'); more; more = c.next('}') {
		name, ok := c.key()
		if !ok {
			return false
		}
		escaped, start := c.escaped, c.pos
		if !c.value() {
			return false
		}
		p.member(name, escaped, c.data[start:c.pos])
	}
	if c.problem != "" || !p.marked {
		return c.problem == ""
	}
	// What stands inside a placeholder disappears with it.
	c.use.used = before
	_, c.invalid = c.use.take(p.num)
	return c.invalid == nil
}
