package store

import (
	"cmp"
	"strconv"
	"strings"
	"time"
)

// A Filter chooses rows for people to look at. Zero fields choose all.
type Filter struct {
	AppID, WorkspaceID string
	Campaign           int64
	Statuses           []string
	Channel            string
	Since, Until       time.Time // of tasks the occurrence, of campaigns the insert; Until is left out
	Limit              int       // zero means 50

	behind TaskCursor // of a list of tasks, the latest due first: those behind it
}

// conditions collects the conditions of a WHERE with their parameters.
type conditions struct {
	where []string
	args  []any
}

// add adds a condition with ? for its parameter, unless the value is zero.
func add[T comparable](c *conditions, condition string, value T) {
	var zero T
	if value == zero {
		return
	}
	c.args = append(c.args, value)
	c.where = append(c.where, strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(c.args))))
}

// sql is the WHERE, which is never empty.
func (c *conditions) sql() string { return strings.Join(append([]string{"true"}, c.where...), " AND ") }

// limit adds the limit's parameter and returns it.
func (c *conditions) limit(n int) string {
	c.args = append(c.args, cmp.Or(n, 50))
	return "$" + strconv.Itoa(len(c.args))
}

// common adds what campaigns and tasks have both, under the given alias.
func (f Filter) common(alias string) *conditions {
	c := &conditions{}
	add(c, alias+".app_id = ?", f.AppID)
	add(c, alias+".workspace_id = ?", f.WorkspaceID)
	add(c, alias+".channel = ?", f.Channel)
	if len(f.Statuses) > 0 {
		c.args = append(c.args, f.Statuses)
		c.where = append(c.where, alias+".status = ANY ($"+strconv.Itoa(len(c.args))+")")
	}
	return c
}
