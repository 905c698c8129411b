// Package notifier tells who wants to know what a workflow and its tasks are
// doing.
package notifier
