package config

import (
	"regexp"
	"slices"
	"strings"
)

// prefix begins the name of every variable that overrides a setting.
const prefix = "SCHEDULER_"

// envName returns the variable of a path: database.url is
// SCHEDULER_DATABASE_URL, apps[0].app_id is SCHEDULER_APPS_0_APP_ID.
func envName(path string) string {
	return prefix + strings.ToUpper(strings.NewReplacer("].", "_", ".", "_", "[", "_", "]", "").Replace(path))
}

// lookupEnv returns the variable's value. An empty variable counts as unset:
// container tools pass on what they have, empty or not.
func (l *loader) lookupEnv(path string) (string, bool) {
	name := envName(path)
	value, set := l.env[name]
	if set {
		l.envUsed[name] = true
	}
	return value, value != ""
}

// hasEnvBelow reports whether any variable sets something below the path.
func (l *loader) hasEnvBelow(path string) bool {
	start := envName(path) + "_"
	for name, value := range l.env {
		if value != "" && strings.HasPrefix(name, start) {
			return true
		}
	}
	return false
}

// foreign matches variables that begin like ours but are not: Kubernetes puts
// them into every pod beside a Service that is named scheduler. SCHEDULER_CONFIG
// is the command line's.
var foreign = regexp.MustCompile(`^SCHEDULER_(CONFIG|(.*_)?SERVICE_(HOST|PORT.*)|(.*_)?PORT(_\d+_(TCP|UDP).*)?)$`)

// strangers warns of variables that look like settings and are none. They are
// no errors, since the prefix is a plain word that others may use too.
func (l *loader) strangers() []string {
	var warnings []string
	for name := range l.env {
		if strings.HasPrefix(name, prefix) && !l.envUsed[name] && !foreign.MatchString(name) {
			warnings = append(warnings, "the variable "+name+" is no setting and was ignored")
		}
	}
	slices.Sort(warnings)
	return warnings
}
