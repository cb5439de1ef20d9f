// Package spelling finds the name that was most likely meant, for everything
// that asks "did you mean". No other package measures how alike names are.
package spelling

import (
	"strings"
	"unicode/utf8"
)

// The longest words that are compared, in characters. A longer word is no slip,
// and the cost grows with the length.
const (
	maxName = 64
	maxKey  = 20
)

// Nearest returns the name that is most like the written word, or "" when none
// is near. Case and the usual separators do not count. Of the other characters
// one in three may differ; two neighbours that changed places count as one.
func Nearest(wrote string, names []string) string {
	length := utf8.RuneCountInString(wrote)
	if length > maxName {
		return ""
	}
	folded, limit := fold(wrote), max(1, length/3)
	return nearest(names, func(name string) (far, allowed int) {
		return distance(folded, fold(name), true), limit
	})
}

// NearestKey is Nearest for the keys of StrategyContent. It measures as the
// database's scheduler.strategy_nearest does, which gives the same hint: the
// distance is Levenshtein's, and one character in four of the key may differ.
func NearestKey(wrote string, keys []string) string {
	if utf8.RuneCountInString(wrote) > maxKey {
		return ""
	}
	folded := foldASCII(wrote)
	return nearest(keys, func(key string) (far, allowed int) {
		return distance(folded, foldASCII(key), false), len(key) / 4
	})
}

// nearest returns the nearest of the names that are not farther than allowed,
// and the first of several.
func nearest(names []string, measure func(name string) (far, allowed int)) string {
	best, least := "", 0
	for _, name := range names {
		if far, allowed := measure(name); far <= allowed && (best == "" || far < least) {
			best, least = name, far
		}
	}
	return best
}

var separators = strings.NewReplacer("_", "", "-", "", ".", "", " ", "")

// fold removes the differences between spellings of one name: msgType, msg-type,
// MSG_TYPE.
func fold(name string) string { return separators.Replace(strings.ToLower(name)) }

// foldASCII is fold as PostgreSQL's lower() and translate() do it in every
// locale: only ASCII letters have a case, and a dot counts.
func foldASCII(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '_' || r == '-' || r == ' ':
			return -1
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, name)
}

// distance returns how many characters have to be inserted, left out or replaced
// to turn one name into the other. With swaps, exchanging two neighbours counts
// as one such step.
func distance(from, to string, swaps bool) int {
	a, b := []rune(from), []rune(to)
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for k := range last {
		last[k] = k
	}
	for i := range a {
		row[0] = i + 1
		for k := range b {
			cost := last[k]
			if a[i] != b[k] {
				cost = 1 + min(last[k], last[k+1], row[k])
			}
			if swaps && i > 0 && k > 0 && a[i] == b[k-1] && a[i-1] == b[k] {
				cost = min(cost, before[k-1]+1)
			}
			row[k+1] = cost
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
