package strategy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"
	_ "time/tzdata" // zones are known on machines without the IANA database, too
)

// zones holds the zones already loaded. Only names that exist get in, so it
// cannot grow beyond the IANA database.
var zones sync.Map // name → *loadedZone

// A loadedZone is a zone with the text that ZoneRules returns for it. The text
// takes a while to make, so it is made when it is first asked for.
type loadedZone struct {
	*time.Location
	rules func() string
}

// loadZone returns the zone of that name, or nil. It takes only names that Go
// and PostgreSQL both know and read alike. PostgreSQL by itself would also take
// other cases, POSIX rules and abbreviations; Go would take any file in the
// database's folder.
func loadZone(name string) *time.Location {
	if zone := load(name); zone != nil {
		return zone.Location
	}
	return nil
}

func load(name string) *loadedZone {
	if zone, ok := zones.Load(name); ok {
		return zone.(*loadedZone)
	}
	if name == "" || name[0] < 'A' || name[0] > 'Z' || name == "Local" || isAbbreviation(name) {
		return nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil
	}
	loaded := &loadedZone{zone, sync.OnceValue(func() string { return rulesOf(zone) })}
	zones.Store(name, loaded)
	return loaded
}

// isAbbreviation reports names of zones with clock changes that PostgreSQL reads
// as abbreviations of a fixed offset: AT TIME ZONE 'CET' stays at +01 all
// summer. The meaning of such a name would depend on who reads it.
func isAbbreviation(name string) bool {
	switch name {
	case "CET", "EET", "EST", "HST", "MET", "MST", "WET":
		return true
	}
	return false
}

// offsetAt returns the zone's seconds east of UTC at a Unix time.
func offsetAt(zone *time.Location, unix int64) int64 {
	_, offset := time.Unix(unix, 0).In(zone).Zone()
	return int64(offset)
}

// A span is a stretch of time, in Unix seconds, with one offset.
type span struct {
	from, to, offset int64 // to is exclusive
}

// spansOf returns the zone's spans that touch the time between two Unix times.
// Neighbours have different offsets.
func spansOf(zone *time.Location, from, to int64) []span {
	spans := []span{{from: minUnix, offset: offsetAt(zone, from)}}
	for at := from; at <= to; {
		at = boundAfter(zone, at)
		last := &spans[len(spans)-1]
		last.to = at
		if offset := offsetAt(zone, at); offset != last.offset && at <= to {
			spans = append(spans, span{from: at, to: maxUnix, offset: offset})
		}
	}
	return spans
}

// boundAfter returns a later time up to which the zone's offset stays the same.
func boundAfter(zone *time.Location, unix int64) int64 {
	_, end := time.Unix(unix, 0).In(zone).ZoneBounds()
	if end.IsZero() {
		return maxUnix
	}
	// In leap years beyond a zone's table Go 1.26 ends the last span of the year
	// on December 31, even when asked later that day.
	return max(end.Unix(), unix+15*60)
}

// Unix times so far out that adding an offset cannot overflow.
const (
	minUnix = -1 << 60
	maxUnix = 1 << 60
)

// ForgetZones drops all loaded zones, so that the next schedule reads the rules
// anew. Schedules that were made before keep the rules they were made with.
func ForgetZones() { zones.Clear() }

// ZoneRules returns a text that differs between two sets of rules for a zone, as
// far as a campaign may see them: its offsets from 2020 to 2060. It returns false
// for a name that no campaign may give.
func ZoneRules(name string) (string, bool) {
	zone := load(name)
	if zone == nil {
		return "", false
	}
	return zone.rules(), true
}

func rulesOf(zone *time.Location) string {
	from, to := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	h := sha256.New()
	for _, s := range spansOf(zone, from, to) {
		fmt.Fprintf(h, "%d %d\n", max(s.from, from), s.offset)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
