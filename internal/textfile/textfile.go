// Package textfile parses texts as editors and other programs write them to files:
// with a byte order mark, with the line ends of any system, and with keys and
// certificates in every common form of PEM. A text that cannot be parsed is refused
// with its place and the form that is expected; no part is skipped silently. Errors
// never quote the text, since it may be a secret.
//
// The package imports the standard library only and reads no file itself.
package textfile

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
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

// A Block is one object of a PEM text.
type Block struct {
	Type string // "CERTIFICATE"; empty for bare base64 without a frame
	DER  []byte // one whole ASN.1 value; nil: Encrypted
	Line int    // where it begins, from 1
	// Encrypted says that a passphrase is needed to read it.
	Encrypted bool
}

var (
	errEmpty     = errors.New("the text is empty")
	errBinary    = errors.New("the text is binary (DER): convert it to PEM, with openssl x509 -inform der, or openssl pkey -inform der for a key")
	errNoBlock   = errors.New("the text is neither PEM nor base64: one that begins with -----BEGIN is wanted")
	errDamaged   = errors.New("is damaged: characters are missing, added or changed")
	errLostBegin = errors.New("base64 stands here without a -----BEGIN line before it")
)

// marker is a whole BEGIN or END line. A program that folds lines may have
// broken it at its spaces.
var marker = regexp.MustCompile(`-----(BEGIN|END)\s+([A-Z0-9]+(?:\s+[A-Z0-9]+)*)\s*-----`)

// brokenMarker matches a line that must have been a BEGIN or END line.
var brokenMarker = regexp.MustCompile(`(?i)^[^\pL]*(BEGIN|END)[^\pL]+([A-Z0-9]+[^\pL]+)*(CERTIFICATE|CRL|KEY|REQUEST|PARAMETERS)[^\pL]*$`)

// PEM returns every block of a text, in order. Any text may stand around and
// between blocks, as openssl writes it, except text that must have been part of
// a block. A text without any block is read as the base64 of one.
//
// It takes line ends of every system, also written out as \n, lines that were
// joined, folded or indented, byte order marks, and quotes around the whole.
func PEM(text string) ([]Block, error) {
	text = plain(text)
	switch {
	case strings.TrimSpace(text) == "":
		return nil, errEmpty
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return nil, errBinary
	}
	marks := marker.FindAllStringSubmatchIndex(text, -1)
	if len(marks) == 0 {
		return bare(text)
	}
	var blocks []Block
	at := 0 // the end of what was read
	for len(marks) > 0 {
		m := marks[0]
		line := lineOf(text, m[0])
		if err := aside(text, at, m[0]); err != nil {
			return nil, err
		}
		if text[m[2]:m[3]] == "END" {
			return nil, fmt.Errorf("line %d: an END line without the BEGIN line before it", line)
		}
		if len(marks) < 2 || text[marks[1][2]:marks[1][3]] == "BEGIN" {
			return nil, fmt.Errorf("line %d: the block that begins here has no END line", line)
		}
		end := marks[1]
		name := words(text[m[4]:m[5]])
		if name != words(text[end[4]:end[5]]) {
			return nil, fmt.Errorf("line %d: the END line is that of another kind of block than the BEGIN line in line %d", lineOf(text, end[0]), line)
		}
		b, err := block(name, text, m[1], end[0])
		if err != nil {
			return nil, err
		}
		b.Line = line
		blocks = append(blocks, b)
		at, marks = end[1], marks[2:]
	}
	return blocks, aside(text, at, len(text))
}

// plain gives every line end the same form and removes byte order marks. A file that
// was joined from several files has more than one.
func plain(text string) string {
	text = strings.NewReplacer("\ufeff", "", "\r\n", "\n", "\r", "\n", `\r\n`, "\n", `\n`, "\n", `\r`, "\n").Replace(text)
	trimmed := strings.TrimSpace(text)
	if len(trimmed) > 1 && strings.ContainsRune("\"'`", rune(trimmed[0])) && trimmed[len(trimmed)-1] == trimmed[0] {
		return trimmed[1 : len(trimmed)-1]
	}
	return text
}

func words(s string) string { return strings.Join(strings.Fields(s), " ") }

func lineOf(text string, at int) int { return 1 + strings.Count(text[:at], "\n") }

// minLost is how long a word of base64 must be to count as part of a block: a
// line of PEM has 64 or 76 characters, the hex digest of SHA-256 has 64.
const minLost = 60

// aside checks the text outside of blocks. Text that must have been part of a block
// shows that a BEGIN or END line is missing.
func aside(text string, from, to int) error {
	line := lineOf(text, from)
	for l := range strings.SplitSeq(text[from:to], "\n") {
		if brokenMarker.MatchString(l) {
			return fmt.Errorf("line %d: this is not a whole BEGIN or END line: five dashes and capitals are wanted", line)
		}
		for word := range strings.FieldsSeq(l) {
			if len(word) >= minLost && strings.IndexFunc(word, notBase64) < 0 && strings.IndexFunc(word, notHex) >= 0 {
				return fmt.Errorf("line %d: %w", line, errLostBegin)
			}
		}
		line++
	}
	return nil
}

func notBase64(r rune) bool {
	return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '+' && r != '/' && r != '='
}

func notHex(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'f') && (r < 'A' || r > 'F')
}

// block reads the text between a BEGIN line and an END line.
func block(name, text string, from, to int) (Block, error) {
	body := text[from:to]
	if strings.Contains(body, "Proc-Type:") && strings.Contains(body, "ENCRYPTED") || strings.HasPrefix(name, "ENCRYPTED ") {
		return Block{Type: name, Encrypted: true}, nil
	}
	if head, rest, ok := strings.Cut(body, "\n\n"); ok && strings.Contains(head, ": ") { // RFC 1421's headers
		from += len(head) + 2
		body = rest
	}
	der, bad, err := decode(body)
	switch {
	case err != nil && bad >= 0:
		return Block{}, fmt.Errorf("line %d: a character that does not belong into a block of PEM", lineOf(text, from+bad))
	case err != nil:
		return Block{}, fmt.Errorf("line %d: the block that begins here %w", lineOf(text, from), err)
	}
	return Block{Type: name, DER: der}, nil
}

// bare reads base64 without a frame, as consoles show keys.
func bare(text string) ([]Block, error) {
	for i, l := range strings.Split(text, "\n") {
		if brokenMarker.MatchString(l) || strings.Contains(l, "-----") {
			return nil, fmt.Errorf("line %d: this is not a whole BEGIN or END line: five dashes and capitals are wanted", i+1)
		}
	}
	der, bad, err := decode(text)
	switch {
	case err != nil && bad >= 0:
		return nil, errNoBlock
	case err != nil:
		return nil, fmt.Errorf("the text %w", err)
	}
	return []Block{{DER: der, Line: 1}}, nil
}

// decode reads base64, folded in any way, of one whole ASN.1 value. bad is the
// offset of the first character that is not base64, or -1.
func decode(body string) (der []byte, bad int, err error) {
	b := make([]byte, 0, len(body))
	for i, r := range body {
		switch {
		case unicode.IsSpace(r):
		case notBase64(r):
			return nil, i, errDamaged
		default:
			b = append(b, byte(r))
		}
	}
	digits := strings.TrimRight(string(b), "=") // the padding tells nothing that the value's own length does not
	der, err = base64.RawStdEncoding.DecodeString(digits)
	if err != nil || len(der) == 0 {
		return nil, -1, errDamaged
	}
	var whole asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &whole); err != nil || len(rest) > 0 {
		return nil, -1, errDamaged
	}
	return der, -1, nil
}
