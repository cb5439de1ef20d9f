// Package attack holds nothing but tests: what people with a login of their own
// try against each other and against the engine, by kind, on a real PostgreSQL.
// What is to be so says docs/security.md. Relations, columns and functions are
// taken from the catalog, so that the next one is covered by itself.
package attack
