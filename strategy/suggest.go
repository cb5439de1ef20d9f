package strategy

import (
	"strings"
	"unicode/utf8"
)

// nearest returns the key an author most likely meant by an unknown one, or "".
// Case and the usual separators do not count; of the rest one letter in four
// may differ.
func nearest(unknown string) string {
	if utf8.RuneCountInString(unknown) > 20 {
		return ""
	}
	best, bestDistance := "", 100
	for _, key := range keys {
		d := distance([]rune(fold(unknown)), []rune(fold(key)))
		if d <= len(key)/4 && d < bestDistance {
			best, bestDistance = key, d
		}
	}
	return best
}

// fold lowers ASCII letters only, which is what lower() does in every locale.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '_' || r == '-' || r == ' ':
			return -1
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// distance is Levenshtein's.
func distance(a, b []rune) int {
	row := make([]int, len(b)+1)
	for i := range row {
		row[i] = i
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for k := range b {
			cost := 1
			if a[i] == b[k] {
				cost = 0
			}
			diagonal, row[k+1] = row[k+1], min(row[k+1]+1, row[k]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
