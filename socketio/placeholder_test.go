package socketio

import (
	"fmt"
	"strings"
	"testing"
)

// badPlaceholders are wrong for two attachments.
var badPlaceholders = []string{
	`[{"_placeholder":true,"num":2}]`,
	`[{"_placeholder":true,"num":-1}]`,
	`[{"_placeholder":true,"num":0.5}]`,
	`[{"_placeholder":true,"num":"0"}]`,
	`[{"_placeholder":true,"num":null}]`,
	`[{"_placeholder":true,"num":99999999999999999999}]`,
	`[{"_placeholder":true,"num":[0]}]`,
	`[{"_placeholder":true}]`,
	`["a",{"b":[{"_placeholder":true,"num":12}]}]`,
	`[{"_placeholder":true,"num":1},{"_placeholder":true,"num":1}]`,
	`[{"_placeholder":true,"num":0,"x":{"_placeholder":true,"num":5}}]`,
	`[{"_placeholder":true,"num":0}`,
	`[{"_placeholder":true,"num":0}]]`,
}

func TestCheckPlaceholders(t *testing.T) {
	for _, text := range badPlaceholders {
		if err := CheckPlaceholders([]byte(text), 2); err == nil {
			t.Errorf("%s accepted", text)
		}
	}
	var all []string
	for k := range MaxAttachments {
		all = append(all, fmt.Sprintf(`{"_placeholder":true,"num":%d}`, k))
	}
	full := "[" + strings.Join(all, ",") + "]"
	for text, n := range map[string]int{"": 1, `["a"]`: 3, `["a",null,{"num":7}]`: 1, full: MaxAttachments, ` [ ] `: 2} {
		if err := CheckPlaceholders([]byte(text), n); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := CheckPlaceholders([]byte(full), MaxAttachments-1); err == nil {
		t.Error("ten placeholders accepted for nine attachments")
	}
	if err := CheckPlaceholders([]byte(full), 11); err == nil || !strings.Contains(err.Error(), "11") {
		t.Errorf("eleven attachments: %v", err)
	}
	deep := []byte(strings.Repeat(`{"a":`, MaxDepth) + "1" + strings.Repeat("}", MaxDepth))
	if err := CheckPlaceholders(deep, 1); err != nil {
		t.Error(err)
	}
	data := []byte(full)
	if n := testing.AllocsPerRun(100, func() { CheckPlaceholders(data, MaxAttachments) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
