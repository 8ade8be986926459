//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/stellara/edge/bench/report"
)

func TestWriteFloorMeasuresEveryWay(t *testing.T) {
	floor, err := writeFloor(20)
	if err != nil {
		t.Fatal(err)
	}
	if len(floor.Writes) != len(floorSizes)*len(floorCalls()) {
		t.Fatalf("%d ways: %+v", len(floor.Writes), floor.Writes)
	}
	for _, w := range floor.Writes {
		if w.LeastUS <= 0 || w.US < w.LeastUS || w.MostUS < w.US {
			t.Errorf("%d bytes by %s: %v, from %v to %v µs", w.Bytes, w.Call, w.US, w.LeastUS, w.MostUS)
		}
	}
	if w := floor.Writes[0]; w.Call != report.CallWrite || floor.Base() != w.US {
		t.Errorf("base %v µs, want that of %+v", floor.Base(), w)
	}
}

func TestFloorNamesTheFilesItNeeds(t *testing.T) {
	if err := floorFiles(5000, 10_099); err == nil || !strings.Contains(err.Error(), "10100") {
		t.Errorf("error %v does not name the files", err)
	}
	if err := floorFiles(5000, 10_100); err != nil {
		t.Error(err)
	}
}
