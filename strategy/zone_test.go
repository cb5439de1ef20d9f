package strategy_test

import (
	"testing"

	"github.com/campaign-scheduler/scheduler/strategy"
)

// The mark of a zone's rules is the same for the same rules, and for no others.
func TestZoneRules(t *testing.T) {
	t.Parallel()
	marks := map[string]string{}
	for _, name := range []string{"Asia/Shanghai", "Asia/Beirut", "Europe/Berlin", "Europe/Paris", "Asia/Tokyo", "UTC"} {
		mark, ok := strategy.ZoneRules(name)
		if !ok || mark == "" {
			t.Fatalf("%s: no rules", name)
		}
		marks[name] = mark
		strategy.ForgetZones()
		if again, _ := strategy.ZoneRules(name); again != mark {
			t.Errorf("%s: %s, then %s", name, mark, again)
		}
	}
	if marks["Europe/Berlin"] != marks["Europe/Paris"] || marks["Asia/Beirut"] == marks["Asia/Tokyo"] || marks["Asia/Shanghai"] == marks["UTC"] {
		t.Errorf("got %v", marks)
	}
	for _, name := range []string{"", "Local", "CET", "Asia/Nowhere"} {
		if mark, ok := strategy.ZoneRules(name); ok {
			t.Errorf("%s has the rules %s", name, mark)
		}
	}
}
