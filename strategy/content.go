package strategy

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/campaign-scheduler/scheduler/internal/rawjson"
	"github.com/campaign-scheduler/scheduler/internal/spelling"
)

// Keys of StrategyContent, in the order in which they are judged.
const (
	keyFixedTime   = "fixedTime"
	keyStartTime   = "startTime"
	keyEndTime     = "endTime"
	keyCircleType  = "circleType"
	keyCircleValue = "circleValue"
	keyTime        = "time"
)

var keys = [...]string{keyFixedTime, keyStartTime, keyEndTime, keyCircleType, keyCircleValue, keyTime}

// fieldContent is the field of problems of the content as a whole.
const fieldContent = "strategy_content"

// fieldTimes is the column that replaces the key time.
const fieldTimes = "times"

// The columns of a calendar.
const (
	fieldCalendar       = "calendar"
	fieldCalendarPolicy = "calendar_policy"
)

const (
	objectHint = "write a JSON object, or a JSON string that holds one"
	fixedHint  = `write {"fixedTime": <Unix milliseconds>}`
	loopHint   = `write {"startTime": <Unix milliseconds>, "endTime": <Unix milliseconds>, "circleType": 1, "time": "HH:mm:ss"}`
)

// content judges Spec.Content by Spec.Type.
func (j *judge) content() Schedule {
	text := strings.Trim(string(j.spec.Content), " \t\r\n")
	if text == "" {
		text = "null"
	}
	if !validJSON(text) {
		j.problem(fieldContent, "must be valid JSON with nothing after it", text, objectHint)
		return Schedule{}
	}
	switch j.spec.Type {
	case Now:
		return j.now(text)
	case Fixed:
		return j.fixed(j.members(text, fixedHint))
	case Loop:
		return j.loop(j.members(text, loopHint))
	}
	return Schedule{}
}

func (j *judge) now(text string) Schedule {
	if empty := text == "null" || text == `""` || text[0] == '{' && strings.Trim(text[1:len(text)-1], " \t\r\n") == ""; !empty {
		j.warn(fieldContent, "is ignored: strategy type 0 (now) has none")
		j.storable(text)
	}
	return Schedule{kind: Now, once: j.spec.WrittenAt.Round(0).UTC()}
}

// A members is the JSON object of a StrategyContent: the raw value of each key.
type members struct {
	text   string
	values map[string]string
}

// members unwraps JSON in a string, and takes the object apart. It reports
// problems of the whole, and unknown and repeated keys. The result is nil when
// there is no object.
func (j *judge) members(text, hint string) *members {
	if text == "null" {
		j.problem(fieldContent, "is required for strategy type "+j.spec.Type.String(), text, hint)
		return nil
	}
	wrapped := text[0] == '"'
	if wrapped {
		text, _ = rawjson.Unquote(text)
	}
	if utf8.RuneCountInString(text) > MaxContent {
		j.problem(fieldContent, "must not be longer than "+strconv.Itoa(MaxContent)+" characters", text, hint)
		return nil
	}
	if wrapped && !validJSON(text) {
		j.problem(fieldContent, "must be valid JSON with nothing after it", text, objectHint)
		return nil
	}
	m := &members{text: text, values: make(map[string]string, len(keys))}
	if !j.takeApart(m) {
		j.problem(fieldContent, "must be a JSON object", text, objectHint)
		return nil
	}
	return m
}

// takeApart fills m.values with the last value of each key, since jsonb keeps the
// last. It returns false when the text is not an object.
func (j *judge) takeApart(m *members) bool {
	var repeated []string
	before := len(j.problems)
	if rawjson.KindOf(m.text) != rawjson.Object {
		return false
	}
	for key, value := range rawjson.Members(m.text) {
		if _, seen := m.values[key]; !seen {
			j.unknownKey(key, value, len(j.problems)-before < spelledOut)
		} else if !slices.Contains(repeated, key) {
			repeated = append(repeated, key)
			j.problem(fieldOf(key), "appears more than once", value, "keep one")
		}
		m.values[key] = value
	}
	return true
}

// spelledOut is how many problems of one campaign the database lists. Later keys
// get no suggestion.
const spelledOut = 20

func (j *judge) unknownKey(key, value string, suggest bool) {
	for _, known := range keys {
		if key == known {
			return
		}
	}
	hint := "remove it: the keys are " + strings.Join(keys[:], ", ")
	if suggest {
		if known := spelling.NearestKey(key, keys[:]); known != "" {
			hint = "did you mean " + known + "?"
		}
	}
	j.problem(fieldOf(key), "is not a key of StrategyContent", value, hint)
}

// fieldOf makes a key presentable as Problem.Field.
func fieldOf(key string) string {
	if key == "" {
		return `""`
	}
	return clip(key)
}

// ignore warns of keys that are given and belong to another type of strategy.
func (j *judge) ignore(m *members, other Type, names ...string) {
	for _, name := range names {
		if _, ok := m.values[name]; ok {
			j.warn(name, "is ignored: it belongs to strategy type "+other.String())
		}
	}
}

// storable reports a number that is valid JSON but that jsonb cannot hold, in a
// value that is otherwise ignored. Since content is bounded in length, only a
// number with an exponent can be such a number.
func (j *judge) storable(text string) {
	if !hasExponent(text) {
		return
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return
		}
		if n, ok := token.(json.Number); ok && !parseNumber(string(n)).storable() {
			j.problem(fieldContent, "must not hold a number beyond what PostgreSQL stores", text, "remove it")
			return
		}
	}
}

func hasExponent(text string) bool {
	for i := 1; i < len(text); i++ {
		if (text[i] == 'e' || text[i] == 'E') && text[i-1] >= '0' && text[i-1] <= '9' {
			return true
		}
	}
	return false
}

// validJSON reports whether PostgreSQL would take the text as JSON. Beyond the
// grammar, PostgreSQL's strings cannot hold NUL or half of a surrogate pair.
func validJSON(text string) bool {
	return utf8.ValidString(text) && json.Valid([]byte(text)) && validEscapes(text)
}

// validEscapes looks at the \u escapes of valid JSON, where a backslash stands
// only in strings.
func validEscapes(text string) bool {
	high := false // the last escape was the first half of a pair
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || text[i+1] != 'u' {
			if high {
				return false
			}
			if text[i] == '\\' {
				i++
			}
			continue
		}
		r, _ := strconv.ParseUint(text[i+2:i+6], 16, 32)
		low := r >= 0xDC00 && r <= 0xDFFF
		if r == 0 || low != high {
			return false
		}
		high = r >= 0xD800 && r <= 0xDBFF
		i += 5
	}
	return !high
}
