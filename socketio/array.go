package socketio

import "errors"

// SplitArray appends the top-level elements of a JSON array to into, each as raw JSON that aliases data, and returns the
// extended slice. Empty data, which is what a packet without payload has, yields no elements. It allocates only to grow
// into. The error is a *SyntaxError, or says that the value is not an array; into is then returned as it was.
func SplitArray(data []byte, into [][]byte) ([][]byte, error) {
	if len(data) == 0 {
		return into, nil
	}
	out := into
	err := eachElement(data, MaxDepth, func(element []byte) error {
		out = append(out, element)
		return nil
	})
	if err != nil {
		return into, err
	}
	return out, nil
}

// eachElement calls visit with the raw value of every element of a JSON array, in order.
func eachElement(data []byte, maxDepth int, visit func(value []byte) error) error {
	s := scanner{data: data, maxDepth: maxDepth}
	s.space()
	if s.pos >= len(data) || data[s.pos] != '[' {
		return errors.New("socketio: JSON value is not an array")
	}
	for more := s.open(']'); more; more = s.next(']') {
		start := s.pos
		if !s.value() {
			return s.err()
		}
		if err := visit(data[start:s.pos:s.pos]); err != nil {
			return err
		}
	}
	if s.problem == "" {
		s.end()
	}
	return s.err()
}

// eachMember calls visit with the name and the raw value of every member of a JSON object, in order.
func eachMember(data []byte, maxDepth int, visit func(name string, value []byte) error) error {
	s := scanner{data: data, maxDepth: maxDepth}
	s.space()
	if s.pos >= len(data) || data[s.pos] != '{' {
		return errors.New("socketio: JSON value is not an object")
	}
	for more := s.open('}'); more; more = s.next('}') {
		raw, ok := s.key()
		if !ok {
			return s.err()
		}
		name := string(raw)
		if s.escaped {
			name = string(appendUnescaped(nil, raw))
		}
		start := s.pos
		if !s.value() {
			return s.err()
		}
		if err := visit(name, data[start:s.pos:s.pos]); err != nil {
			return err
		}
	}
	if s.problem == "" {
		s.end()
	}
	return s.err()
}
