// Package clients holds the API in front to Alibaba Cloud's own clients: they
// schedule, list and cancel against the running program. It is a module of its
// own, so that their dependencies are none of the program's.
package clients
