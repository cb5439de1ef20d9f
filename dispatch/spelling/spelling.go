// Package spelling tells how alike two names are, for the adapters that ask an
// author "did you mean".
package spelling

// Distance is the Levenshtein distance of two names: how many bytes have to be
// put in, left out or replaced to make one of the other.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for i := range row {
		row[i] = i
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for k := range len(b) {
			cost := diagonal
			if a[i] != b[k] {
				cost = 1 + min(diagonal, row[k], row[k+1])
			}
			diagonal, row[k+1] = row[k+1], cost
		}
	}
	return row[len(b)]
}
