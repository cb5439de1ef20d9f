package strategytest

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/strategy"
)

// Zones have odd offsets, odd clock changes, or none.
var Zones = []string{
	"Asia/Shanghai", "UTC", "America/New_York", "Europe/London", "Europe/Dublin", "Australia/Lord_Howe",
	"Pacific/Apia", "Pacific/Kwajalein", "America/Havana", "Africa/Cairo", "Asia/Beirut", "America/Sao_Paulo",
	"America/Asuncion", "America/Santiago", "Africa/Casablanca", "Antarctica/Troll", "America/Nuuk",
	"America/Scoresbysund", "Atlantic/Azores", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Tehran", "Asia/Pyongyang",
	"America/Caracas", "Pacific/Chatham", "Pacific/Kiritimati", "Africa/Monrovia", "America/St_Johns", "Asia/Gaza",
	"Europe/Moscow", "Asia/Amman", "Antarctica/Casey", "EST5EDT", "Etc/GMT+12", "PRC",
}

var badZones = []string{"", "Local", "asia/shanghai", "Asia/SHANGHAI", "CET", "EST", "CST", "UTC+8", "+08:00", "Asia/Nowhere", "Foo/Bar3", "posix/Asia/Shanghai", "../UTC", "Europe/London ", "€/Ü"}

// Good draws a Spec that most likely has no problems.
func Good(t *rapid.T) strategy.Spec {
	zone := rapid.SampledFrom(Zones).Draw(t, "zone")
	written := rapid.Int64Range(0, 2_840_000_000).Draw(t, "written") // to 2059
	s := Defaults()
	s.Zone = zone
	s.WrittenAt = time.Unix(written, rapid.SampledFrom([]int64{0, 1000, 999_999_000}).Draw(t, "fraction")).UTC()
	s.Type = rapid.SampledFrom([]strategy.Type{strategy.Fixed, strategy.Loop, strategy.Loop, strategy.Loop}).Draw(t, "type")
	s.ShortMonth = rapid.SampledFrom([]strategy.ShortMonthPolicy{strategy.ShortMonthSkip, strategy.ShortMonthLastDay}).Draw(t, "short_month")
	s.DSTGap = rapid.SampledFrom([]strategy.DSTGapPolicy{strategy.DSTGapShift, strategy.DSTGapSkip}).Draw(t, "dst_gap")
	s.Content = object(goodMembers(t, s))
	if rapid.IntRange(0, 3).Draw(t, "several times") == 0 {
		s.Times = rapid.SliceOfNDistinct(rapid.Custom(clock), 1, strategy.MaxTimes, rapid.ID).Draw(t, "times")
	}
	return s
}

type member struct{ key, value string }

func digits(n int64) string { return fmt.Sprint(n) }

func goodMembers(t *rapid.T, s strategy.Spec) []member {
	if s.Type == strategy.Fixed {
		ahead := rapid.Int64Range(-3_590_000, 1<<40).Draw(t, "ahead")
		return []member{{"fixedTime", fmt.Sprint(max(0, s.WrittenAt.UnixMilli()+ahead))}}
	}
	ms := s.WrittenAt.UnixMilli()
	start := rapid.Int64Range(0, 170).Draw(t, "start")
	end := rapid.Int64Range(start, 179).Draw(t, "end")
	const day = 86_400_000
	members := []member{
		{"startTime", fmt.Sprint(ms + start*day)},
		{"endTime", fmt.Sprint(ms + end*day)},
		{"circleType", "1"},
		{"time", `"` + clock(t) + `"`},
	}
	switch kind := rapid.IntRange(1, 3).Draw(t, "circleType"); kind {
	case 2:
		members[2].value = "2"
		members = append(members, member{"circleValue", days(t, 7)})
	case 3:
		members[2].value = "3"
		members = append(members, member{"circleValue", days(t, 31)})
	}
	return members
}

// clock favours the hours in which clocks change.
func clock(t *rapid.T) string {
	hour := rapid.SampledFrom([]int{0, 0, 1, 2, 2, 3, 22, 23, 12, 18}).Draw(t, "hour")
	return fmt.Sprintf("%02d:%02d:%02d", hour, rapid.SampledFrom([]int{0, 15, 30, 59}).Draw(t, "minute"),
		rapid.SampledFrom([]int{0, 1, 59}).Draw(t, "second"))
}

func days(t *rapid.T, highest int) string {
	set := rapid.SliceOfNDistinct(rapid.IntRange(1, highest), 1, 5, rapid.ID).Draw(t, "days")
	text, _ := json.Marshal(set)
	return string(text)
}

func object(members []member) []byte {
	parts := make([]string, len(members))
	for i, m := range members {
		key, _ := json.Marshal(m.key)
		parts[i] = string(key) + ":" + m.value
	}
	return []byte("{" + strings.Join(parts, ",") + "}")
}

// Any draws a Spec that is good, or broken in up to three places, or rubbish.
func Any(t *rapid.T) strategy.Spec {
	s := Good(t)
	members := goodMembers(t, s)
	for range rapid.IntRange(0, 3).Draw(t, "mutations") {
		members = mutate(t, members)
	}
	s.Content = object(members)
	breakColumns(t, &s)
	switch rapid.IntRange(0, 9).Draw(t, "form") {
	case 0, 1, 2, 3:
		s.Content = inString(s.Content)
	case 4:
		s.Content = inString([]byte(damage(t, string(s.Content))))
	case 5:
		s.Content = inString([]byte(rapid.String().Draw(t, "rubbish")))
	case 6:
		s.Content = []byte(value(t))
	}
	return s
}

func inString(text []byte) []byte {
	quoted, _ := json.Marshal(string(text))
	return quoted
}

func breakColumns(t *rapid.T, s *strategy.Spec) {
	odds := func(name string) bool { return rapid.IntRange(0, 14).Draw(t, name) == 7 }
	if odds("bad type") {
		s.Type = strategy.Type(rapid.SampledFrom([]int{0, 0, 3, -1, math.MaxInt16}).Draw(t, "other type"))
	}
	if odds("bad zone") {
		s.Zone = rapid.SampledFrom(badZones).Draw(t, "other zone")
	}
	if odds("bad short_month") {
		s.ShortMonth = rapid.SampledFrom([]strategy.ShortMonthPolicy{"", "Skip", "last"}).Draw(t, "other short_month")
	}
	if odds("bad dst_gap") {
		s.DSTGap = rapid.SampledFrom([]strategy.DSTGapPolicy{"", "last_day", "SHIFT"}).Draw(t, "other dst_gap")
	}
	if odds("bad catch_up") {
		us := rapid.SampledFrom([]int64{0, -1, 1, -1_500_000, 36525*86400_000_000 + 1, 36525 * 86400_000_000, 9e15}).Draw(t, "other catch_up")
		s.CatchUpWindow = time.Duration(us) * time.Microsecond
	}
	if odds("calendar") {
		s.Calendar = rapid.SampledFrom([]string{"open", "中国"}).Draw(t, "calendar name")
		closed := Calendars(t, s.WrittenAt)
		s.Closed = closed.Closed(t, s.WrittenAt, s.WrittenAt.AddDate(0, 0, 190))
	}
	if odds("calendar_policy") {
		s.CalendarPolicy = rapid.SampledFrom([]strategy.CalendarPolicy{"skip", "next_open", "previous_open", "Skip", "next"}).Draw(t, "policy")
	}
	if odds("bad times") {
		s.Times = rapid.SliceOfN(rapid.OneOf(rapid.Custom(clock), rapid.SampledFrom(badTimes)), 0, strategy.MaxTimes+2).Draw(t, "other times")
	}
}

var badTimes = []string{"", "24:00:00", "9:00:00", "09:00", "09:00:00 ", "09:00:00\n", "09:00:00.5", "１２:30:00", "12:30:60", `"12:30:00"`, strings.Repeat("é", 90)}

var otherKeys = []string{
	"fixedTime", "startTime", "endTime", "circleType", "circleValue", "time", "start_time", "FIXEDTIME", "tme",
	"circleTypes", "cycleValue", "", "zeit", "end Time", "Zeitzone für alle", "strtTme", "a key much longer than twenty characters",
}

func mutate(t *rapid.T, members []member) []member {
	i := rapid.IntRange(0, max(0, len(members)-1)).Draw(t, "which")
	key := rapid.OneOf(rapid.SampledFrom(otherKeys), rapid.String())
	switch how := rapid.IntRange(0, 5).Draw(t, "how"); {
	case how == 0 || len(members) == 0:
		return append(members, member{key.Draw(t, "key"), value(t)})
	case how == 1:
		members[i].key = key.Draw(t, "key")
	case how == 2:
		return append(members[:i:i], members[i+1:]...)
	default:
		members[i].value = value(t)
	}
	return members
}

// value draws raw JSON, often near a limit of some rule.
func value(t *rapid.T) string {
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			"null", "true", "{}", "[]", `""`, "0", "-0", "1", "2", "3", "4", "7", "8", "31", "32", "1.0", "1.5", "2e0", "30e-1", "1e2",
			"0.1e1", "1E+400000", "1e-20000", "0e-20000", "0e99999999999", "-1", "9223372036854775807", "9223372036854775808",
			"-9223372036854775808", "-9223372036854775809", "253402300799999", "253402300800000", "1763000000", `"12:30:00"`, `"24:00:00"`,
			`"12:30:60"`, `"9:30:00"`, `"12:30"`, `"12:30:00 "`, `"１２:30:00"`, `"\u0031\u0032:30:00"`, `"\u0000"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00"`,
			"[1,7]", "[ 1 , 1 ]", "[7,1,8,0]", "[31]", "[29,30,31]", "[30, 2.0]", "[1.5,null,[1,2],\"1\"]", `[{"a":1,"a":2}]`, "[1e400000]", `{"a":[1e400000]}`,
		}),
		rapid.Map(rapid.Int64(), func(n int64) string { return fmt.Sprint(n) }),
		rapid.Map(rapid.Int64Range(0, 4_000_000_000_000), func(n int64) string { return fmt.Sprint(n) }),
		rapid.Map(rapid.Float64Range(-1e20, 1e20), func(f float64) string { return fmt.Sprintf("%g", f) }),
		rapid.Map(rapid.String(), func(s string) string { return string(inString([]byte(s))) }),
		rapid.Map(rapid.IntRange(70, 9000), func(n int) string { return `"` + strings.Repeat("é", n) + `"` }),
		rapid.Map(rapid.SliceOfN(rapid.IntRange(-1, 33), 0, 8), func(list []int) string {
			text, _ := json.Marshal(list)
			return string(text)
		}),
	).Draw(t, "value")
}

// damage breaks the text of a JSON document at one place.
func damage(t *rapid.T, text string) string {
	at := rapid.IntRange(0, len(text)).Draw(t, "at")
	bit := rapid.SampledFrom([]string{"", " ", ",", "}", "{", `"`, "\\", `\u0000`, `\uD800`, "1", "-", "0", ".", "e", "null", "\t", "\n", "\x01", "[", "]", " {}", "/**/"}).Draw(t, "bit")
	skip := min(len(text), at+rapid.IntRange(0, 3).Draw(t, "skip"))
	return strings.ToValidUTF8(text[:at]+bit+text[skip:], "?")
}
