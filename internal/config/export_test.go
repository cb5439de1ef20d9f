package config

import (
	"fmt"
	"reflect"
)

// EnvName is the variable of a path.
var EnvName = envName

// Paths lists every key that a configuration may hold, with the file twins, as
// paths; apps stand for their first.
func Paths(providers []Provider) []string {
	paths := pathsOf(reflect.TypeFor[Config](), "")
	for _, p := range providers {
		for _, o := range p.Options() {
			paths = append(paths, "apps[0]."+o.Name, "apps[0]."+o.Name+fileTwin)
		}
	}
	return paths
}

func pathsOf(t reflect.Type, path string) []string {
	var paths []string
	for field := range t.Fields() {
		key := field.Tag.Get("yaml")
		at := join(path, key)
		switch {
		case key == "-":
		case field.Type == appsType:
			paths = append(paths, pathsOf(reflect.TypeFor[App](), fmt.Sprintf("%s[0]", at))...)
		case field.Type == secretType:
			paths = append(paths, at, at+fileTwin)
		case field.Type.Kind() == reflect.Struct:
			paths = append(paths, pathsOf(field.Type, at)...)
		default:
			paths = append(paths, at)
		}
	}
	return paths
}
