// Package excerpt keeps the start of a text that comes from outside, an error's message
// or a name, so that it fits a field of an event: valid UTF-8, at most so many bytes.
//
// Not for: escaping. What it returns may hold any character.
package excerpt
