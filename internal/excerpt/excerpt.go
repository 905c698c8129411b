package excerpt

import (
	"strings"
	"unicode/utf8"
)

// Of returns the longest start of text that is valid UTF-8 and at most limit bytes
// long, limit being 0 or more. What is not valid is replaced by U+FFFD before.
func Of(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// Line is Of the text as one line, with one space for each run of white space.
func Line(text string, limit int) string {
	return Of(strings.Join(strings.Fields(text), " "), limit)
}
