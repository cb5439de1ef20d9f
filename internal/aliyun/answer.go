package aliyun

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
)

// A Field is one name and value of an answer, in its order. The value is a
// string, an int64, a bool, Fields, or a list of Fields.
type Field struct {
	Name  string
	Value any
}

// Fields are an object of an answer.
type Fields []Field

// RequestID makes an id of a call: a UUID in upper case.
func RequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := strings.ToUpper(hex.EncodeToString(b[:]))
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Answer writes a service's answer, whose first field is the RequestId.
func Answer(w http.ResponseWriter, format Format, action, requestID string, fields Fields) {
	write(w, format, http.StatusOK, action+"Response", append(Fields{{"RequestId", requestID}}, fields...))
}

// Refuse writes the gateway's refusal.
func Refuse(w http.ResponseWriter, format Format, requestID, host string, e *Error) {
	write(w, format, e.Status, "Error", Fields{
		{"RequestId", requestID},
		{"HostId", clip(host)},
		{"Code", e.Code},
		{"Message", e.Message},
		{"Recommend", "https://api.aliyun.com/troubleshoot?q=" + e.Code + "&product=mPaaS"},
	})
}

func write(w http.ResponseWriter, format Format, status int, root string, fields Fields) {
	var body []byte
	kind := "application/json;charset=utf-8"
	if format == XML {
		kind = "text/xml;charset=utf-8"
		body = appendXML([]byte(xml.Header), root, fields)
	} else {
		body = appendJSON(nil, fields)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone is nobody's trouble
}

func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case Fields:
		b = append(b, '{')
		for i, f := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendJSON(b, f.Name), ':')
			b = appendJSON(b, f.Value)
		}
		return append(b, '}')
	case []Fields:
		b = append(b, '[')
		for i, f := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, f)
		}
		return append(b, ']')
	default:
		text, err := json.Marshal(v)
		if err != nil {
			panic("aliyun: an answer with a value of a strange type")
		}
		return append(b, text...)
	}
}

// appendXML writes a list as its name with an Item for each entry, as the Java
// client reads it.
func appendXML(b []byte, name string, v any) []byte {
	b = append(append(append(b, '<'), name...), '>')
	switch v := v.(type) {
	case Fields:
		for _, f := range v {
			b = appendXML(b, f.Name, f.Value)
		}
	case []Fields:
		for _, f := range v {
			b = appendXML(b, "Item", f)
		}
	case string:
		var text strings.Builder
		_ = xml.EscapeText(&text, []byte(v)) // a Builder takes everything
		b = append(b, text.String()...)
	case int64:
		b = strconv.AppendInt(b, v, 10)
	case bool:
		b = strconv.AppendBool(b, v)
	}
	return append(append(append(b, "</"...), name...), '>')
}
