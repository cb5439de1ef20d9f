//go:build unix

package embedpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An account is whom the server runs as when this process is root. A nil
// account means: as ourselves.
type account struct {
	name     string
	uid, gid int
}

// pickAccount returns nil when we are not root. PostgreSQL refuses to run as
// root, and initdb needs an account with a passwd entry. Existing data keep
// their owner.
func pickAccount(data string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil // the account "ourselves"
	}
	info, err := os.Stat(data)
	switch {
	case err == nil:
		return ownerOf(data, info)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return newAccount(u)
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody; " +
		"start this as an ordinary user")
}

func ownerOf(data string, info fs.FileInfo) (*account, error) {
	uid, _ := owner(info)
	if uid == 0 {
		return nil, fmt.Errorf("%s belongs to root, and PostgreSQL refuses to run as root; give it to another account: chown -R postgres %s", data, data)
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return nil, fmt.Errorf("owner of %s: %w", data, err)
	}
	return newAccount(u)
}

func newAccount(u *user.User) (*account, error) {
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("account %s: %w", u.Username, err)
	}
	return &account{name: u.Username, uid: uid, gid: gid}, nil
}

// own gives path to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// credential is what a child process needs to run as the account.
func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// canReach names the directory on the way to dir that the account may not
// enter, such as /root: initdb would only say "permission denied".
func (a *account) canReach(dir string) error {
	if a == nil {
		return nil
	}
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !a.canEnter(info) {
			return fmt.Errorf("as root the server runs as %s, who may not enter %s (mode %#o); choose a data directory elsewhere, such as /var/lib/scheduler",
				a.name, dir, info.Mode().Perm())
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

func (a *account) canEnter(info fs.FileInfo) bool {
	uid, gid := owner(info)
	switch {
	case uid == a.uid:
		return info.Mode()&0o100 != 0
	case gid == a.gid:
		return info.Mode()&0o010 != 0
	}
	return info.Mode()&0o001 != 0
}

func owner(info fs.FileInfo) (uid, gid int) {
	st := info.Sys().(*syscall.Stat_t) // always so on unix
	return int(st.Uid), int(st.Gid)
}
