// Package screen shows the tasks of a workflow and their statuses while they
// change: a live table in a terminal, one plain line per event elsewhere.
//
// It promises that everything it shows was received as an event. It knows no
// workflow, no plan and no clock of its own besides the one that measures how
// late an event was drawn; what nobody published is not on the screen.
//
// Not for: keeping a history. Rows that do not fit are counted, not shown.
package screen
