package dashboards

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const deploy = "../../deploy/"

// formatFloat is a float as the text format of Prometheus has it.
func formatFloat(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// dashboard is what the tests look at of Grafana's JSON model.
// https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
type dashboard struct {
	UID, Title, Description, Refresh string
	SchemaVersion                    int
	Tags                             []string
	Panels                           []panel
	Templating                       struct{ List []variable }
	Annotations                      struct{ List []target }
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               *source
	GridPos                  struct{ H, W, X, Y int }
	FieldConfig              struct {
		Defaults struct {
			Unit  string
			Color struct{ Mode string }
		}
	}
	Options struct {
		YAxis      struct{ Unit string }
		CellValues struct{ Unit string }
	}
	Targets []target
	Panels  []panel // of a row that is folded up
}

type target struct {
	RefID, Name, Expr, LegendFormat, Format string
	Datasource                              *source
}

type source struct{ Type, UID string }

type variable struct {
	Name, Type, Definition string
	Datasource             *source
	IncludeAll             bool
	AllValue               string
}

// templated is the data source that is chosen at the top of the dashboard.
var templated = source{"prometheus", "${datasource}"}

// dashboards reads all of them, by file name. Unknown fields are Grafana's own.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(deploy + "grafana/dashboards/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d dashboards: %v", len(files), err)
	}
	all := map[string]dashboard{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(file)] = d
	}
	return all
}

// TestDashboards: each has an identity of its own, the variables that its queries use, and panels beside each other.
func TestDashboards(t *testing.T) {
	uids, titles := map[string]string{}, map[string]string{}
	for file, d := range dashboards(t) {
		if d.UID == "" || uids[d.UID] != "" {
			t.Errorf("%s: the uid %q is that of %q", file, d.UID, uids[d.UID])
		}
		if d.Title == "" || titles[d.Title] != "" {
			t.Errorf("%s: the title %q is that of %q", file, d.Title, titles[d.Title])
		}
		uids[d.UID], titles[d.Title] = file, file
		if d.Description == "" || d.SchemaVersion < 36 || !slices.Contains(d.Tags, "stellara-edge") {
			t.Errorf("%s: description %q, schema %d, tags %q", file, d.Description, d.SchemaVersion, d.Tags)
		}
		checkVariables(t, file, d)
		checkGrid(t, file, d.Panels)
	}
}

func checkVariables(t *testing.T, file string, d dashboard) {
	t.Helper()
	kinds := map[string]string{}
	for _, v := range d.Templating.List {
		kinds[v.Name] = v.Type
		if v.Type == "query" && (v.Datasource == nil || *v.Datasource != templated) {
			t.Errorf("%s: the variable %s asks %+v", file, v.Name, v.Datasource)
		}
	}
	if kinds["datasource"] != "datasource" || kinds["job"] != "query" || kinds["instance"] != "query" {
		t.Errorf("%s: variables %v", file, kinds)
	}
	if d.Templating.List[0].Name != "datasource" {
		t.Errorf("%s: the other variables come from the data source, which comes after them", file)
	}
}

// checkGrid wants panels within 24 columns, none upon another, with ids of their own.
func checkGrid(t *testing.T, file string, panels []panel) {
	t.Helper()
	taken := map[[2]int]string{}
	ids := map[int]string{}
	for _, p := range panels {
		if p.ID == 0 || ids[p.ID] != "" {
			t.Errorf("%s: %q has the id %d of %q", file, p.Title, p.ID, ids[p.ID])
		}
		ids[p.ID] = p.Title
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
			t.Errorf("%s: %q is at %+v", file, p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s: %q lies upon %q", file, p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if len(p.Panels) > 0 {
			t.Errorf("%s: the row %q is folded up, and hides panels", file, p.Title)
		}
	}
}

// TestPanels: each says what it shows, in which unit and from the data source that was chosen, and asks for what there is,
// of the job and the nodes that were chosen.
func TestPanels(t *testing.T) {
	series := catalogue(t)
	for _, r := range recordingRules(t) {
		series[r.name] = map[string][]string{}
	}
	seen := map[string]bool{}
	for file, d := range dashboards(t) {
		titles := map[string]bool{}
		for _, p := range d.Panels {
			if p.Title == "" || titles[p.Title] {
				t.Errorf("%s: two panels are named %q", file, p.Title)
			}
			titles[p.Title] = true
			if p.Type == "row" {
				continue
			}
			where := fmt.Sprintf("%s: %q", file, p.Title)
			checkPanel(t, where, p)
			for _, q := range p.Targets {
				checkTarget(t, where, q, series)
				for _, s := range selectors(q.Expr) {
					seen[s.name] = true
				}
			}
		}
		for _, a := range d.Annotations.List {
			if a.Expr != "" {
				checkTarget(t, file+": annotation "+a.Name, target{RefID: "-", LegendFormat: a.Name, Expr: a.Expr, Datasource: a.Datasource}, series)
			}
		}
	}
	checkCoverage(t, series, seen)
}

func checkPanel(t *testing.T, where string, p panel) {
	t.Helper()
	if !slices.Contains([]string{"timeseries", "stat", "heatmap"}, p.Type) {
		t.Errorf("%s is a %s", where, p.Type)
	}
	if len(p.Description) < 12 || !strings.HasSuffix(p.Description, ".") {
		t.Errorf("%s has the description %q", where, p.Description)
	}
	if unit := p.FieldConfig.Defaults.Unit; !slices.Contains(units, unit) && !strings.HasPrefix(unit, "suffix:") {
		t.Errorf("%s has the unit %q", where, unit)
	}
	if color := p.FieldConfig.Defaults.Color.Mode; p.Type == "timeseries" && color != "palette-classic-by-name" {
		t.Errorf("%s has the colours %q: a node or a reason would change its colour from panel to panel", where, color)
	}
	if p.Type == "heatmap" && (p.Options.YAxis.Unit != "s" || p.Options.CellValues.Unit == "") {
		t.Errorf("%s has no unit on its axis", where)
	}
	if p.Datasource == nil || *p.Datasource != templated {
		t.Errorf("%s asks %+v", where, p.Datasource)
	}
	if len(p.Targets) == 0 {
		t.Errorf("%s asks nothing", where)
	}
	refs := map[string]bool{}
	for _, q := range p.Targets {
		if q.RefID == "" || refs[q.RefID] {
			t.Errorf("%s has two queries %q", where, q.RefID)
		}
		refs[q.RefID] = true
		if (p.Type == "heatmap") != (q.Format == "heatmap") {
			t.Errorf("%s has the format %q", where, q.Format)
		}
	}
}

// units are those of Grafana that are used here, by its ids.
// https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts
var units = []string{"short", "percentunit", "s", "bytes", "Bps", "ops", "reqps", "mps", "cps", "pps"}

// fixedWindow is a range in a query that does not follow the dashboard.
var fixedWindow = regexp.MustCompile(`\[\d`)

func checkTarget(t *testing.T, where string, q target, series map[string]map[string][]string) {
	t.Helper()
	if q.Datasource == nil || *q.Datasource != templated {
		t.Errorf("%s, query %s asks %+v", where, q.RefID, q.Datasource)
	}
	if q.LegendFormat == "" {
		t.Errorf("%s, query %s has no legend", where, q.RefID)
	}
	if problem := judge(q.Expr, series); problem != "" {
		t.Errorf("%s, query %s: %s, in %s", where, q.RefID, problem, q.Expr)
	}
	if fixedWindow.MatchString(q.Expr) {
		t.Errorf("%s, query %s looks at a window of its own: %s", where, q.RefID, q.Expr)
	}
	for _, s := range selectors(q.Expr) {
		recorded := strings.Contains(s.name, ":")
		if s.labels["job"] != "=$job" || !recorded && s.labels["instance"] != "=~$instance" {
			t.Errorf("%s, query %s asks for %s of other nodes than those chosen: %s", where, q.RefID, s.name, q.Expr)
		}
	}
}

// checkCoverage wants everything that a node exports of itself on some dashboard.
func checkCoverage(t *testing.T, series map[string]map[string][]string, seen map[string]bool) {
	t.Helper()
	for name := range series {
		base, histogram := strings.CutSuffix(name, "_bucket")
		switch {
		case !strings.HasPrefix(name, "edge_") || strings.HasSuffix(name, "_sum") || strings.HasSuffix(name, "_count"):
		case histogram && (seen[name] || seen[base+"_sum"]) || seen[name]:
		case slices.Contains(unshown, name):
		default:
			t.Errorf("%s is on no dashboard", name)
		}
	}
}

// unshown are metrics that no dashboard needs.
var unshown = []string{
	"edge_adapter_requests_total", "edge_relayed_frames_total", "edge_deflate_conns_total", "edge_deflate_messages_total", "edge_deflate_futile_total",
	"edge_auth_keys_loaded_timestamp_seconds", // loads that fail have an alert
}
