// Package spelling finds the name that was most likely meant, for all who ask
// "did you mean". It is the only place that measures how alike names are, but
// for package strategy, whose measure has a twin in SQL.
package spelling

import "strings"

// maxName bounds a name that is compared, in bytes: none that is longer is a
// slip of the pen, and the cost grows with the length.
const maxName = 64

// Nearest returns that of the names which is most like what was written, or ""
// when none is near. Case and the usual separators do not count; of the rest,
// one byte in three may differ.
func Nearest(wrote string, names []string) string {
	if len(wrote) > maxName {
		return ""
	}
	best, least := "", 1+max(1, len(wrote)/3)
	wrote = fold(wrote)
	for _, name := range names {
		if d := distance(wrote, fold(name)); d < least {
			best, least = name, d
		}
	}
	return best
}

var separators = strings.NewReplacer("_", "", "-", "", ".", "", " ", "")

// fold strips what spellings of one name differ by: msgType, msg-type, MSG_TYPE.
func fold(name string) string { return separators.Replace(strings.ToLower(name)) }

// distance is how many bytes have to be put in, left out, replaced, or swapped
// with the next one, to make one name of the other.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for k := range last {
		last[k] = k
	}
	for i := range len(a) {
		row[0] = i + 1
		for k := range len(b) {
			cost := last[k]
			if a[i] != b[k] {
				cost = 1 + min(last[k], last[k+1], row[k])
			}
			if i > 0 && k > 0 && a[i] == b[k-1] && a[i-1] == b[k] {
				cost = min(cost, before[k-1]+1)
			}
			row[k+1] = cost
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
