//go:build unix

package embedpg

// Inner pieces that the tests look at on their own.
var (
	ShellQuote = shellQuote
	SocketDir  = socketDir
	TakeLock   = takeLock
	DropLock   = dropLock
)

// Choose is choose with installations given as directory → major version.
func Choose(found map[string]int, major int) (string, error) {
	var all []installation
	for dir, v := range found {
		all = append(all, installation{dir, v})
	}
	in, err := choose(all, "", major)
	return in.dir, err
}

// CanReach is canReach of an account that owns nothing.
func CanReach(dir string) error {
	return (&account{name: "stranger", uid: 64321, gid: 64321}).canReach(dir)
}

// Sockets is the directory of the server's unix socket.
func (s *Server) Sockets() string { return s.sockets }
