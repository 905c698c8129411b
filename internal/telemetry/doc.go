// Package telemetry is the one place that names metrics, spans and log
// attributes.
//
// It promises that label values come from fixed sets (never an id, a key or an
// address), that spans and log lines carry no value and no key name, and that
// building the same set of metrics twice on one registry yields the same
// collectors instead of an error, so that several workers in a process share
// them.
//
// Not for: exporting. Where metrics and spans go is the host's choice.
package telemetry
