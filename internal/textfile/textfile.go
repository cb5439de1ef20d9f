// Package textfile reads texts as people's programs leave them in files: with a
// byte order mark, with the line ends of any system, keys and certificates in
// every form in which PEM travels. What cannot be understood is refused with its
// place and the form that is wanted; nothing is skipped in silence. No error
// quotes the text, since it may be a secret.
//
// It imports the standard library only and reads no file itself.
package textfile

import (
	"bytes"
	"errors"
	"strings"
)

// errUTF16 names the encoding that editors on Windows call "Unicode".
var errUTF16 = errors.New("is UTF-16 text: save it as UTF-8")

// Clean returns the text of a file without a byte order mark at its beginning
// and without line ends at its end, which editors and echo leave behind. Line
// ends inside stay as they are.
func Clean(content []byte) (string, error) {
	if bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
		return "", errUTF16
	}
	return strings.TrimRight(strings.TrimPrefix(string(content), "\ufeff"), "\r\n"), nil
}
