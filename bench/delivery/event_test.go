package delivery

import "testing"

func TestOffsetOf(t *testing.T) {
	for event, want := range map[string]string{
		`["message","r",{"from":"a"},{"n":1},"k3Jx_9aQ.17-0"]`: "k3Jx_9aQ.17-0",
		`["presence",{"users":["a"]},"k3Jx_9aQ.17-1"]`:         "k3Jx_9aQ.17-1",
		`["name"]`:                 "name", // as the official client has it
		`["x","a \"quoted\" one"]`: `a "quoted" one`,
		`["x",["a"]]`:              "",
		`["x",{"a":"b"}]`:          "",
		`["x",1]`:                  "",
		`["x","\u0061"]`:           "a",
		`[]`:                       "",
	} {
		got, ok := offsetOf([]byte(event))
		if got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v, want %q", event, got, ok, want)
		}
	}
}

func TestNumbered(t *testing.T) {
	for _, id := range []string{"", "17"} {
		for _, pad := range []int{0, 9} {
			event := appendMessage(nil, "a \"room\"", id, 3, 17, pad)
			if stream, n, ok := Numbered(event); stream != 3 || n != 17 || !ok {
				t.Errorf("%s: %d, %d, %v", event, stream, n, ok)
			}
		}
	}
	if want, got := `["message",{"room":"r","id":"x"},{"stream":3,"n":17,"pad":"xx"}]`, string(appendMessage(nil, "r", "x", 3, 17, 2)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, event := range []string{`["message","r",{"from":"a"},1]`, `["message",{"stream":1}]`, `["message",{"stream":1,"n":0}]`, `["message",{"stream":x,"n":1}]`, `["message",{"stream":1,"n":1`} {
		if _, _, ok := Numbered([]byte(event)); ok {
			t.Errorf("%s is numbered", event)
		}
	}
}
