package state

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// leastRights is the command of docs/operations.md that gives a node's user its rights.
func leastRights(t testing.TB) []string {
	t.Helper()
	document, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ACL SETUSER edge .*$`).Find(document)
	if line == nil {
		t.Fatal("docs/operations.md does not say which rights a node needs")
	}
	return strings.Fields(string(line))
}

// expectNoDenials fails the test if the server refused a user something, as far as its present process knows.
func expectNoDenials(t testing.TB, r *redisServer) {
	t.Helper()
	if r.cmd == nil {
		return
	}
	r.thaw(t)
	c, err := net.Dial("tcp", "127.0.0.1:"+r.port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("ACL LOG\r\nQUIT\r\n")); err != nil {
		t.Fatal(err)
	}
	reply, err := io.ReadAll(c)
	if err != nil || string(reply) != "*0\r\n+OK\r\n" {
		t.Errorf("Redis refused its user something, of which ACL LOG says %q, %v", reply, err)
	}
}

// Every command of a script is among the rights, whether or not a test gets there.
func TestRightsOfScripts(t *testing.T) {
	rights := leastRights(t)
	call := regexp.MustCompile(`redis\.p?call\('([A-Z]+)'(?:, '(STREAM)')?`)
	found := 0
	err := fs.WalkDir(os.DirFS("scripts"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		source, err := os.ReadFile("scripts/" + path)
		for _, m := range call.FindAllStringSubmatch(string(source), -1) {
			found++
			right := strings.ToLower("+" + m[1])
			if m[2] != "" {
				right += "|" + strings.ToLower(m[2])
			}
			if !slices.Contains(rights, right) {
				t.Errorf("%s calls what docs/operations.md does not name: %s", path, right)
			}
		}
		return err
	})
	if err != nil || found == 0 {
		t.Errorf("%d calls found, %v", found, err)
	}
}

// A right that lacks is named in the log, once for each command, whoever needs it: a
// command, a script, what a script calls, a subscription.
func TestMissingRights(t *testing.T) {
	for name, tt := range map[string]struct {
		without string
		want    []string // on one line of the log
	}{
		"command in a script": {"+xadd", []string{"command=EVALSHA", "key=socket.io-journal"}},
		"command":             {"+info", []string{"command=INFO", "'info' command"}},
		"key":                 {"~socket.io-peer*", []string{"command=SET", "key=socket.io-peer", "keys"}},
		"channel":             {"allchannels", []string{"command=subscription", "channels"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := observed(t, redisWith(t))
			rights := slices.DeleteFunc(leastRights(t), func(right string) bool { return right == tt.without })
			b.redis.command(t, rights)
			var err error
			if b.options, err = parseURL("redis://edge:password@127.0.0.1:" + b.redis.port); err != nil {
				t.Fatal(err)
			}
			n := b.open(t, "nodeAAAA", recovering)
			n.Bus().Open("/")
			n.Peers().Announce("127.0.0.1:1")
			n.run(t)
			var lines []string
			eventually(t, "two refusals", func() error {
				if n.link.down() == nil {
					n.journalled(t, "/", "r1", "x")
				}
				if testutil.ToFloat64(n.metrics.RedisDenials) < 2 {
					return errNotYet
				}
				lines = slices.DeleteFunc(n.log.all(), func(line string) bool {
					return !strings.Contains(line, "redis does not permit")
				})
				right := func(line string) bool {
					return !slices.ContainsFunc(tt.want, func(want string) bool { return !strings.Contains(line, want) })
				}
				if !slices.ContainsFunc(lines, right) { // the first ones may be others'
					return fmt.Errorf("no line of the log says %q: %q", tt.want, lines)
				}
				return nil
			})
			command := regexp.MustCompile(`command=\S+`)
			named := map[string]bool{}
			for _, line := range lines {
				if c := command.FindString(line); named[c] {
					t.Errorf("%s is named again: %q", c, lines)
				} else {
					named[c] = true
				}
			}
		})
	}
}
