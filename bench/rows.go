//go:build unix

package main

import (
	"slices"

	"github.com/compozy/temporal-redis/bench/internal/harness"
)

// rows are all rows in the order of the table. Bars are those of the project's
// design; rows without one show what a bar hides.
func rows() []harness.Row {
	return slices.Concat(hitRows(), missRows(), setRows(), badgerRows(), scanRows(), memoryRows(), staleRows(), cacheRows(), lockRows(), contendedRows(), pubSubRows())
}

// groupConfig is the group of everything about the config store.
const groupConfig = "config"

// groupCache is the group of everything about caches that have to be told.
const groupCache = "cache"
