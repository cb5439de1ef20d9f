package spelling_test

import (
	"strings"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch/spelling"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"title", "expired_seconds", "templateName", "template_id"}
	for _, c := range []struct{ wrote, want string }{
		{"titel", "title"},
		{"tittle", "title"},
		{"expiredSeconds", "expired_seconds"},
		{"Template-Name", "templateName"},
		{"templateID", "template_id"},
		{"xyz", ""},
		{"", ""},
		{strings.Repeat("title", 1<<20), ""},
	} {
		if got := spelling.Nearest(c.wrote, names); got != c.want {
			t.Errorf("%.20q: %q, want %q", c.wrote, got, c.want)
		}
	}
}
