package report

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Columns writes a table with aligned columns: a head with a tab behind each title, and what rows adds,
// one call for each row.
func Columns(b *strings.Builder, head string, rows func(row func(cells ...any))) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "  %s\n", head)
	rows(func(cells ...any) {
		fmt.Fprint(w, "  ")
		for _, c := range cells {
			fmt.Fprintf(w, "%v\t", c)
		}
		fmt.Fprintln(w)
	})
	w.Flush()
}
