package config

import (
	"fmt"
	"regexp"
	"strings"
)

// reference matches $${ (the escape), a whole ${…}, and an unclosed ${.
var reference = regexp.MustCompile(`\$\$\{|\$\{([^}]*)\}|\$\{`)

// variable matches what may stand in the braces: a name and, after :-, a text
// for when it is unset or empty.
var variable = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?$`)

// expand replaces ${NAME} and ${NAME:-default} in a value. It works on values
// that are parsed already, so that nothing in the environment can add a key or
// a line to the file, and what it puts in is not looked at again.
func expand(text string, env map[string]string) (string, error) {
	var firstErr error
	out := reference.ReplaceAllStringFunc(text, func(match string) string {
		if match == "$${" {
			return "${"
		}
		value, err := resolve(match, env)
		if firstErr == nil {
			firstErr = err
		}
		return value
	})
	return out, firstErr
}

func resolve(match string, env map[string]string) (string, error) {
	inner := strings.TrimSuffix(strings.TrimPrefix(match, "${"), "}")
	parts := variable.FindStringSubmatch(inner)
	if parts == nil || !strings.HasSuffix(match, "}") {
		return "", fmt.Errorf("holds a ${ that is not followed by a variable's name and }; write $${ for the characters themselves")
	}
	name, hasDefault := parts[1], parts[2] != ""
	value, set := env[name]
	switch {
	case hasDefault && value == "":
		return parts[3], nil
	case !set:
		return "", fmt.Errorf("the variable %s is not set; set it, or write ${%s:-} if it may be empty", name, name)
	}
	return value, nil
}
