package engine

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
)

// TestNewLeavesNoPartOut looks through every part of a new engine, and what they are
// made of, for functions and parts that nobody has given them: one that is missing
// would be a nil pointer at the first push.
func TestNewLeavesNoPartOut(t *testing.T) {
	t.Parallel()
	e := New(Config{
		Store: &store.Store{}, Log: slog.New(slog.DiscardHandler), App: func(int32) *App { return nil },
		Compile: func(*store.Campaign) (*dispatch.Message, []dispatch.Problem) { return nil, nil },
	})
	later := []string{"Engine.stop", "Engine.stopCalls", "Engine.stopRecorders", "loop.answers"} // set by Start; nil where it says so
	seen := make(map[uintptr]bool)
	var look func(of string, v reflect.Value)
	look = func(of string, v reflect.Value) {
		if v.Kind() == reflect.Pointer {
			if seen[v.Pointer()] {
				return
			}
			seen[v.Pointer()] = true
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct || v.Type().PkgPath() != reflect.TypeFor[Engine]().PkgPath() {
			return
		}
		for i := range v.NumField() {
			f, name := v.Field(i), fmt.Sprintf("%s.%s", v.Type().Name(), v.Type().Field(i).Name)
			switch k := f.Kind(); {
			case k == reflect.Struct:
				look(name, f)
			case k != reflect.Func && k != reflect.Pointer:
			case !f.IsNil():
				look(name, f)
			case f.Type() != reflect.TypeFor[*traces]() && !slices.Contains(later, name): // nil traces trace nothing
				t.Errorf("%s (found at %s) is nil", name, of)
			}
		}
	}
	look("New", reflect.ValueOf(e))
}
