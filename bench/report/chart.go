package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Size of a chart's drawing in SVG units, and of the margins that hold the axes.
const (
	chartWidth   = 560.0
	chartHeight  = 250.0
	marginLeft   = 52.0
	marginRight  = 24.0
	marginTop    = 14.0
	marginBottom = 34.0
)

// series is one line, without a name if it is not for the legend; class gives its colour, area fills it down to base (or to the axis).
type series struct {
	name   string
	class  string
	points []Point
	area   bool
	base   []Point // lower edge of a stacked area, nil for the axis
	dashed bool
	hover  func(Point) string // text of a point, nil for none
}

// tick is a labelled place on an axis.
type tick struct {
	at    float64
	label string
}

// chart is a drawing with two axes.
type chart struct {
	title, note    string
	xLabel, yLabel string
	logY           bool
	xTicks         []tick // nil: round numbers
	xFrom, xTo     float64
	shadeTo        float64 // x up to which the ground is shaded, for warm-up
	marks          []Mark  // named vertical lines
	series         []series
}

// scale maps values to SVG units.
type scale struct {
	from, to float64 // values
	low, hi  float64 // units
	log      bool
}

func (s scale) at(v float64) float64 {
	from, to := s.from, s.to
	if s.log {
		v, from, to = math.Log10(max(v, s.from)), math.Log10(from), math.Log10(to)
	}
	return s.low + (v-from)/(to-from)*(s.hi-s.low)
}

// svg draws the chart with its title and legend.
func (c *chart) svg() string {
	if !c.drawable() {
		return ""
	}
	x := scale{from: c.xFrom, to: c.xTo, low: marginLeft, hi: chartWidth - marginRight}
	y, yTicks := c.yScale()
	var b strings.Builder
	fmt.Fprintf(&b, `<figure><figcaption><b>%s</b>`, html.EscapeString(c.title))
	if c.note != "" {
		fmt.Fprintf(&b, ` <span>%s</span>`, html.EscapeString(c.note))
	}
	b.WriteString(`</figcaption>` + c.legend())
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartWidth, chartHeight, html.EscapeString(c.title))
	bottom := chartHeight - marginBottom
	if c.shadeTo > 0 {
		fmt.Fprintf(&b, `<rect class="shade" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/><text class="mark" x="%.1f" y="%.1f">warm-up</text>`,
			x.low, marginTop, x.at(c.shadeTo)-x.low, bottom-marginTop, x.low+4, marginTop+11)
	}
	for _, t := range yTicks {
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="tick" x="%.1f" y="%.1f" text-anchor="end">%s</text>`,
			x.low, x.hi, y.at(t.at), y.at(t.at), x.low-6, y.at(t.at)+3.5, t.label)
	}
	xTicks := c.xTicks
	if xTicks == nil {
		xTicks = roundTicks(c.xFrom, c.xTo, 8)
	}
	for _, t := range xTicks {
		fmt.Fprintf(&b, `<line class="axis" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="tick" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`,
			x.at(t.at), x.at(t.at), bottom, bottom+4, x.at(t.at), bottom+15, t.label)
	}
	fmt.Fprintf(&b, `<line class="axis" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, x.low, x.hi, bottom, bottom)
	fmt.Fprintf(&b, `<text class="tick" x="%.1f" y="%.1f" text-anchor="end">%s</text>`, x.hi, chartHeight-4, html.EscapeString(c.xLabel))
	c.drawMarks(&b, x, bottom)
	for i := range c.series {
		c.series[i].draw(&b, x, y, bottom)
	}
	b.WriteString("</svg></figure>\n")
	return b.String()
}

func (c *chart) drawable() bool {
	for _, s := range c.series {
		if len(s.points) > 1 && c.xTo > c.xFrom {
			return true
		}
	}
	return false
}

func (c *chart) legend() string {
	var b strings.Builder
	b.WriteString(`<div class="legend">`)
	for _, s := range c.series {
		if s.name == "" {
			continue // belongs to one that has a name
		}
		shape := "line"
		if s.area {
			shape = "box"
		}
		if s.dashed {
			shape = "dash"
		}
		fmt.Fprintf(&b, `<span class="%s"><i class="%s"></i>%s</span>`, s.class, shape, html.EscapeString(s.name))
	}
	fmt.Fprintf(&b, `<em>%s</em></div>`, html.EscapeString(c.yLabel))
	return b.String()
}

// drawMarks puts the marks' names into rows, so that close ones do not overlap.
func (c *chart) drawMarks(b *strings.Builder, x scale, bottom float64) {
	const letter, rows = 5.2, 3
	var ends [rows]float64
	for _, m := range c.marks {
		if m.T > c.xTo {
			continue // the samples ended before it
		}
		at := x.at(m.T)
		row := 0
		for row < rows-1 && ends[row] > at {
			row++
		}
		ends[row] = at + 8 + letter*float64(len(m.Name))
		fmt.Fprintf(b, `<line class="markline" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="mark" x="%.1f" y="%.1f">%s</text>`,
			at, at, marginTop, bottom, at+3, marginTop+9+float64(row)*11, html.EscapeString(m.Name))
	}
}

// yScale covers all values: from zero, or on a logarithmic axis whole decades.
func (c *chart) yScale() (scale, []tick) {
	low, high := math.Inf(1), 0.0
	for _, s := range c.series {
		for _, p := range s.points {
			high = max(high, p.Y)
			if p.Y > 0 {
				low = min(low, p.Y)
			}
		}
	}
	y := scale{low: chartHeight - marginBottom, hi: marginTop}
	if high <= 0 {
		low, high = 0.1, 1
	}
	if c.logY {
		y.log = true
		y.from, y.to = logFloor(low), logCeil(high*1.02)
		if y.from >= y.to {
			y.to = y.from * 10
		}
		return y, logTicks(y.from, y.to)
	}
	high *= 1.12
	if len(c.marks) > 0 {
		high *= 1.15 // room for their names
	}
	y.to = high
	return y, roundTicks(0, high, 6)
}

// logFloor and logCeil round to 1, 2 or 5 times a power of ten.
func logFloor(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{5, 2} {
		if m*p <= v {
			return m * p
		}
	}
	return p
}

func logCeil(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*p >= v {
			return m * p
		}
	}
	return 10 * p
}

func logTicks(from, to float64) []tick {
	var ticks []tick
	steps := []float64{1, 2, 5}
	if math.Log10(to/from) > 3.5 {
		steps = steps[:1]
	}
	for p := math.Pow(10, math.Floor(math.Log10(from))); p <= to; p *= 10 {
		for _, m := range steps {
			if v := m * p; v >= from*0.999 && v <= to*1.001 {
				ticks = append(ticks, tick{v, short(v)})
			}
		}
	}
	return ticks
}

// roundTicks are at most n steps of 1, 2 or 5 times a power of ten.
func roundTicks(from, to float64, n int) []tick {
	step := logCeil((to - from) / float64(n))
	var ticks []tick
	for k := math.Ceil(from / step); k*step <= to; k++ {
		ticks = append(ticks, tick{k * step, short(k * step)})
	}
	return ticks
}

// short writes an axis label.
func short(v float64) string {
	if v >= 10_000 {
		return fmt.Sprintf("%gk", math.Round(v/100)/10)
	}
	if v >= 1000 {
		return thousands(v)
	}
	return fmt.Sprintf("%.4g", v)
}

func (s *series) draw(b *strings.Builder, x, y scale, bottom float64) {
	if len(s.points) == 0 {
		return
	}
	var line strings.Builder
	for i, p := range s.points {
		letter := 'L'
		if i == 0 {
			letter = 'M'
		}
		fmt.Fprintf(&line, "%c%.1f %.1f", letter, x.at(p.X), y.at(p.Y))
	}
	if s.area {
		path := line.String()
		if s.base == nil {
			path += fmt.Sprintf("L%.1f %.1fL%.1f %.1fZ", x.at(s.points[len(s.points)-1].X), bottom, x.at(s.points[0].X), bottom)
		} else {
			for i := len(s.base) - 1; i >= 0; i-- {
				path += fmt.Sprintf("L%.1f %.1f", x.at(s.base[i].X), y.at(s.base[i].Y))
			}
			path += "Z"
		}
		fmt.Fprintf(b, `<path class="area %s" d="%s"/>`, s.class, path)
	}
	dash := ""
	if s.dashed {
		dash = " dashed"
	}
	fmt.Fprintf(b, `<path class="line %s%s" d="%s"/>`, s.class, dash, line.String())
	if s.hover == nil {
		return
	}
	for _, p := range s.points {
		fmt.Fprintf(b, `<circle class="dot %s" cx="%.1f" cy="%.1f" r="5"><title>%s</title></circle>`,
			s.class, x.at(p.X), y.at(p.Y), html.EscapeString(s.hover(p)))
	}
}
