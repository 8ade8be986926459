package report

import (
	"fmt"
	"html"
	"strings"
)

// Ways into the kernel whose price Floor tells.
const (
	CallWrite = "syscall.Write" // as any Go program writes, which tells the scheduler
	CallRaw   = "RawSyscall"    // past the scheduler, the least there is
)

// Floor is what a delivery costs a program that does nothing but write it to a socket.
type Floor struct {
	Sockets int          `json:"sockets"` // TCP connections on loopback that took turns
	Rounds  int          `json:"rounds"`  // writes to each of them, for each size and call
	Writes  []FloorWrite `json:"writes"`
}

// FloorWrite is the CPU time of the writing thread for one message, in microseconds: the median of the
// rounds, and the cheapest and the dearest one.
type FloorWrite struct {
	Bytes   int     `json:"bytes"`
	Call    string  `json:"call"`
	US      float64 `json:"us"`
	LeastUS float64 `json:"least_us"`
	MostUS  float64 `json:"most_us"`
}

// Base returns the price by which deliveries are judged, in microseconds: that of syscall.Write, which is
// how a server in Go writes, for the smallest message that was measured. It is 0 if there is none.
func (f *Floor) Base() float64 {
	if f == nil {
		return 0
	}
	for _, w := range f.Writes {
		if w.Call == CallWrite {
			return w.US
		}
	}
	return 0
}

// floorText is the table of the scenario floor.
func floorText(b *strings.Builder, f *Floor) {
	if f == nil {
		return
	}
	fmt.Fprintf(b, "\nCPU of one message to one of %s sockets, which another thread drains\n", thousands(float64(f.Sockets)))
	Columns(b, "bytes\tcall\tmedian\tcheapest round\tdearest round\t", func(row func(cells ...any)) {
		for _, w := range f.Writes {
			row(w.Bytes, w.Call, micros(w.US), micros(w.LeastUS), micros(w.MostUS))
		}
	})
}

// floorSection is the same for the page.
func floorSection(f *Floor) string {
	if f == nil {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<section><h2>The write floor</h2><p class=\"dim\">CPU of one message to one of %s sockets on loopback, which another thread drains; "+
		"median, cheapest and dearest of %d rounds</p><table class=\"figures\">"+
		"<tr><th>message, call</th><th>median</th><th>cheapest</th><th>dearest</th></tr>\n", thousands(float64(f.Sockets)), f.Rounds)
	for _, w := range f.Writes {
		fmt.Fprintf(&b, "<tr><td>%d bytes, %s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n",
			w.Bytes, html.EscapeString(w.Call), micros(w.US), micros(w.LeastUS), micros(w.MostUS))
	}
	return b.String() + "</table></section>\n"
}

func micros(v float64) string { return fmt.Sprintf("%.2f µs", v) }
