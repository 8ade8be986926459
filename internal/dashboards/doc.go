// Package dashboards holds the tests of what deploy/grafana and deploy/prometheus
// show and alert on: every metric that they name is one of the catalogue.
package dashboards
