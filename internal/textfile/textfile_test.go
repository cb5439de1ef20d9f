package textfile_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/textfile"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ content, want, err string }{
		"plain":               {"secret", "secret", ""},
		"a line end":          {"secret\n", "secret", ""},
		"two line ends":       {"secret\n\n", "secret", ""},
		"line ends of DOS":    {"secret\r\n\r\n", "secret", ""},
		"line ends of old":    {"secret\r", "secret", ""},
		"a byte order mark":   {"\xef\xbb\xbfsecret\n", "secret", ""},
		"spaces belong to it": {" a b \n", " a b ", ""},
		"lines inside":        {"a\r\nb\n", "a\r\nb", ""},
		"nothing":             {"\xef\xbb\xbf\r\n", "", ""},
		"UTF-16":              {"\xff\xfes\x00", "", "is UTF-16 text: save it as UTF-8"},
		"UTF-16, big end":     {"\xfe\xff\x00s", "", "is UTF-16 text: save it as UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := textfile.Clean([]byte(tt.content))
			if got != tt.want || errText(err) != tt.err {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// object is an ASN.1 value of some size, and framed the text that holds it.
func object(size int) []byte {
	der, _ := asn1.Marshal(bytes.Repeat([]byte{0x5a, 0x11, 0xfe}, size/3))
	return der
}

func framed(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Every form in which PEM travels is read, and to the same bytes.
func TestPEMInEveryForm(t *testing.T) {
	t.Parallel()
	one, two := object(300), object(601)
	a, b := framed(one), framed(two)
	both := a + b
	bare := base64.StdEncoding.EncodeToString
	forms := map[string]string{
		"as it is":              both,
		"byte order mark":       "\ufeff" + both,
		"two byte order marks":  "\ufeff" + a + "\ufeff" + b,
		"CRLF":                  strings.ReplaceAll(both, "\n", "\r\n"),
		"CR only":               strings.ReplaceAll(both, "\n", "\r"),
		`\n written out`:        strings.ReplaceAll(both, "\n", `\n`),
		`\r\n written out`:      strings.ReplaceAll(both, "\n", `\r\n`),
		"on one line":           strings.ReplaceAll(both, "\n", " "),
		"joined":                strings.ReplaceAll(both, "\n", ""),
		"indented":              "  " + strings.ReplaceAll(both, "\n", "\n\t  "),
		"in quotes":             `"` + both + `"`,
		"in quotes, one line":   `'` + strings.ReplaceAll(both, "\n", `\n`) + `'` + "\n",
		"without the last line": strings.TrimSpace(both),
		"blank lines":           strings.ReplaceAll(both, "\n", "\n\n"),
		"text around":           "subject=C = CN, CN = a\nissuer=/CN=b\n" + a + "# the root, SHA-256 " + strings.Repeat("0aB", 21) + "0\n" + b + "\nBag Attributes\n    localKeyID: 54 69\n",
		"folded wide":           "-----BEGIN CERTIFICATE-----\n" + bare(one) + "\n-----END CERTIFICATE-----\n-----BEGIN\n  CERTIFICATE-----\n" + bare(two) + "\n-----END\n CERTIFICATE-----",
		"headers":               strings.Replace(a, "-----\n", "-----\nComment: x\nVersion: 1\n\n", 1) + b,
		"no padding":            strings.ReplaceAll(both, "=", ""),
	}
	for name, text := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := textfile.PEM(text)
			if err != nil || len(got) != 2 || !bytes.Equal(got[0].DER, one) || !bytes.Equal(got[1].DER, two) || got[0].Type != "CERTIFICATE" {
				t.Errorf("got %d blocks, %v", len(got), err)
			}
		})
	}
	for name, text := range map[string]string{
		"bare": bare(one), "bare, folded": "  " + bare(one)[:64] + "\n" + bare(one)[64:] + "\n", "bare, quoted": `"` + bare(one) + `"`,
		"bare, marked": "\ufeff" + bare(one) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := textfile.PEM(text)
			if err != nil || len(got) != 1 || !bytes.Equal(got[0].DER, one) || got[0].Type != "" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// Nothing is skipped in silence: what is not whole is refused with its place.
func TestDamagedPEMIsRefused(t *testing.T) {
	t.Parallel()
	a, b, c := framed(object(300)), framed(object(600)), framed(object(900))
	lines := strings.Count(a, "\n")
	digits := strings.Split(b, "\n")[1][20:24]
	second := func(damage func(string) string) string { return a + damage(b) + c }
	drop := func(part string) func(string) string {
		return func(s string) string { return strings.Replace(s, part, "", 1) }
	}
	swap := func(from, to string) func(string) string {
		return func(s string) string { return strings.Replace(s, from, to, 1) }
	}
	for name, tt := range map[string]struct {
		text string
		want string // in the error
	}{
		"a character that is none": {second(swap(digits, "!"+digits[1:])), fmt.Sprintf("line %d: a character", lines+2)},
		"a character lost":         {second(swap(digits, digits[1:])), fmt.Sprintf("line %d: the block that begins here is damaged", lines+1)},
		"four characters lost":     {second(drop(digits)), "is damaged"},
		"a line lost":              {second(func(s string) string { l := strings.Split(s, "\n"); return strings.Join(append(l[:3], l[4:]...), "\n") }), "is damaged"},
		"a line twice":             {second(func(s string) string { l := strings.Split(s, "\n"); return strings.Join(append(l[:3], l[2:]...), "\n") }), "is damaged"},
		"no END":                   {second(drop("-----END CERTIFICATE-----")), fmt.Sprintf("line %d: the block that begins here has no END line", lines+1)},
		"no BEGIN":                 {second(drop("-----BEGIN CERTIFICATE-----")), "without a -----BEGIN line"},
		"neither": {second(func(s string) string {
			return drop("-----END CERTIFICATE-----")(drop("-----BEGIN CERTIFICATE-----")(s))
		}), "without a -----BEGIN line"},
		"no END of the last":         {a + drop("-----END CERTIFICATE-----\n")(b), "has no END line"},
		"four dashes":                {second(swap("-----BEGIN", "----BEGIN")), "not a whole BEGIN or END line"},
		"dashes of a word processor": {second(func(s string) string { return strings.ReplaceAll(s, "-----", "—–-") }), "not a whole BEGIN or END line"},
		"in small letters":           {second(strings.ToLower), "not a whole BEGIN or END line"},
		"END of another kind":        {second(swap("END CERTIFICATE", "END PUBLIC KEY")), "another kind of block"},
		"cut in the middle":          {(a + b)[:len(a)+100], "has no END line"},
		"an empty block":             {second(func(string) string { return "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n" }), "is damaged"},
		"empty":                      {"\ufeff \r\n", "is empty"},
		"binary":                     {string(object(300)), "is binary (DER)"},
		"a page":                     {"<html>not found</html>", "is neither PEM nor base64"},
		"other base64":               {"c2VjcmV0", "is damaged"},
		"bare, cut":                  {base64.StdEncoding.EncodeToString(object(300))[:200], "is damaged"},
		"only a BEGIN":               {"-----BEGIN CERTIFICATE-----", "has no END line"},
		"only words":                 {"-----BEGIN CERTIFICATE----", "not a whole BEGIN or END line"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := textfile.PEM(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %d blocks, %v, want an error with %q", len(got), err, tt.want)
			}
		})
	}
}

func TestEncryptedPEM(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
		"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
	} {
		got, err := textfile.PEM(text)
		if err != nil || len(got) != 1 || !got[0].Encrypted {
			t.Errorf("got %+v, %v", got, err)
		}
	}
}

// Whatever a text holds, it is read or refused, and a block that is read is one
// whole value.
func FuzzPEM(f *testing.F) {
	f.Add(framed(object(30)))
	f.Add("-----BEGIN A-----\n\n-----END A-----")
	f.Fuzz(func(t *testing.T, text string) {
		blocks, err := textfile.PEM(text)
		if (len(blocks) > 0) == (err != nil) {
			t.Fatalf("%d blocks, %v", len(blocks), err)
		}
		for _, b := range blocks {
			if !b.Encrypted && len(b.DER) == 0 {
				t.Fatalf("an empty block: %+v", b)
			}
		}
	})
}
