package sandbox

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A schedule is the strategy of a push that the service is to send later. The
// daemon never asks for such pushes, since it keeps the schedule itself. With
// it the sandbox can refuse and list such pushes as the service does.
type schedule struct {
	strategy int // 1 scheduled, 2 loop
	times    []time.Time
}

// A scheduledTask is one coming push.
type scheduledTask struct {
	app, uniqueID, parentID, title, content, delivery string

	kind, strategy int
	pushTime       time.Time
	created        time.Time
}

// maxScheduled is the documented number of unexecuted scheduled or loop tasks
// of an app.
const maxScheduled = 100

// shanghai is the zone of the service, which knows no other. The zone has no
// summer time.
var shanghai = time.FixedZone("Asia/Shanghai", 8*60*60)

type strategyContent struct {
	FixedTime   int64  `json:"fixedTime"`
	StartTime   int64  `json:"startTime"`
	EndTime     int64  `json:"endTime"`
	CircleType  int    `json:"circleType"`
	CircleValue []int  `json:"circleValue"`
	Time        string `json:"time"`
}

// checkStrategy reads StrategyContent of a scheduled or loop push.
func (m *mpaas) checkStrategy(c *call) *refusal {
	kind := string(c.value("StrategyType"))
	if kind == "" || kind == "0" {
		return nil
	}
	text := c.value("StrategyContent")
	var inner string
	if json.Unmarshal(text, &inner) == nil {
		text = []byte(inner)
	}
	var content strategyContent
	if err := json.Unmarshal(text, &content); err != nil {
		return invalid("StrategyContent is not the documented JSON")
	}
	c.schedule = &schedule{strategy: 1, times: []time.Time{time.UnixMilli(content.FixedTime).Truncate(time.Second)}}
	if kind == "1" && content.FixedTime > 0 {
		return nil
	}
	if kind == "1" {
		return invalid("StrategyContent lacks fixedTime")
	}
	var r *refusal
	c.schedule.strategy = 2
	c.schedule.times, r = content.expand(m.now())
	return r
}

// expand walks the days of a loop that is not over and ends in time.
func (s *strategyContent) expand(now time.Time) ([]time.Time, *refusal) {
	at, err := time.Parse(time.TimeOnly, s.Time)
	if err != nil || s.StartTime <= 0 || s.EndTime < s.StartTime || s.CircleType < 1 || s.CircleType > 3 {
		return nil, invalid("StrategyContent: a loop needs startTime, endTime, circleType and time")
	}
	if s.CircleType > 1 && len(s.CircleValue) == 0 {
		return nil, invalid("StrategyContent: circleValue is missing")
	}
	var times []time.Time
	today, first, end := dayOf(now), dayOf(time.UnixMilli(s.StartTime)), dayOf(time.UnixMilli(s.EndTime))
	if first.Before(today) || end.After(today.AddDate(0, 0, maxDaysAhead)) {
		return nil, invalid("StrategyContent: a loop starts today at the earliest and ends at most 180 days ahead")
	}
	for day := first; !day.After(end); day = day.AddDate(0, 0, 1) {
		if s.matches(day) {
			y, m, d := day.Date()
			times = append(times, time.Date(y, m, d, at.Hour(), at.Minute(), at.Second(), 0, shanghai))
		}
	}
	return times, nil
}

const maxDaysAhead = 180

// dayOf returns 00:00 of an instant's day, in the service's zone.
func dayOf(t time.Time) time.Time {
	y, m, d := t.In(shanghai).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, shanghai)
}

func (s *strategyContent) matches(day time.Time) bool {
	switch s.CircleType {
	case 2:
		return slices.Contains(s.CircleValue, (int(day.Weekday())+6)%7+1)
	case 3:
		return slices.Contains(s.CircleValue, day.Day())
	}
	return true
}

// scheduler keeps the coming pushes by unique id.
type scheduler struct {
	mu    sync.Mutex
	tasks []scheduledTask
}

func newScheduler() *scheduler { return &scheduler{} }

// add stores a push's schedule: a loop becomes one subtask for each time.
func (s *scheduler) add(c *call, now time.Time) *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	app := string(c.appID) + "\n" + string(c.workspaceID)
	waiting := len(c.schedule.times)
	for _, t := range s.tasks {
		if t.app == app && t.pushTime.After(now) {
			waiting++
		}
	}
	if waiting > maxScheduled {
		return &refusal{http.StatusOK, "3028", "INVALID_PARAM: more than 100 unexecuted scheduled tasks"}
	}
	for i, at := range c.schedule.times {
		id := c.messageID
		if c.schedule.strategy == 2 {
			id += "-" + strconv.Itoa(i+1)
		}
		s.tasks = append(s.tasks, scheduledTask{
			app: app, uniqueID: id, parentID: c.messageID, pushTime: at, created: now,
			title: string(c.value("Title")), content: string(c.value("Content")), delivery: string(c.value("DeliveryType")),
			kind: int(c.api - apiPushSimple), strategy: c.schedule.strategy,
		})
	}
	return nil
}

// query appends the ResultContent of QueryPushSchedulerList.
func (s *scheduler) query(b []byte, c *call, now time.Time) []byte {
	type item struct {
		UniqueID       string `json:"UniqueId"`
		ParentID       string `json:"ParentId"`
		PushTime       int64
		PushTitle      string
		PushContent    string
		Type           int
		DeliveryType   string
		StrategyType   int
		ExecutedStatus string // a string in the SDK, an int in the documents
		CreateType     int
		GmtCreate      int64
	}
	list := []item{}
	for _, t := range s.find(c) {
		status := "0"
		if !t.pushTime.After(now) {
			status = "1"
		}
		list = append(list, item{
			t.uniqueID, t.parentID, t.pushTime.UnixMilli(), t.title, t.content, t.kind, t.delivery, t.strategy, status, 0,
			t.created.UnixMilli(),
		})
	}
	total := len(list)
	page, size := max(1, atoi(c.value("PageNumber"), 1)), max(1, atoi(c.value("PageSize"), 500))
	from := min((page-1)*size, total)
	text, err := json.Marshal(map[string]any{
		"Success": true,
		"Data":    map[string]any{"TotalCount": total, "List": list[from:min(from+size, total)]},
	})
	if err != nil { // nothing in it can fail to encode
		return append(b, "null"...)
	}
	return append(b, text...)
}

func (s *scheduler) find(c *call) []scheduledTask {
	s.mu.Lock()
	defer s.mu.Unlock()
	app := string(c.appID) + "\n" + string(c.workspaceID)
	from, to := int64(atoi(c.value("StartTime"), 0)), int64(atoi(c.value("EndTime"), 0))
	kind, id := string(c.value("Type")), string(c.value("UniqueId"))
	var found []scheduledTask
	for _, t := range s.tasks {
		at := t.pushTime.UnixMilli()
		if t.app == app && at >= from && at <= to && (kind == "" || kind == strconv.Itoa(t.kind)) &&
			(id == "" || id == t.uniqueID || id == t.parentID) {
			found = append(found, t)
		}
	}
	slices.SortStableFunc(found, func(a, b scheduledTask) int { return a.pushTime.Compare(b.pushTime) })
	return found
}

// cancel removes tasks by their unique ids, or a whole loop by its parent id,
// and appends the ResultContent of CancelPushScheduler.
func (s *scheduler) cancel(b []byte, c *call) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	app := string(c.appID) + "\n" + string(c.workspaceID)
	ids := strings.Split(string(c.value("UniqueIds")), ",")
	s.tasks = slices.DeleteFunc(s.tasks, func(t scheduledTask) bool {
		return t.app == app && (slices.Contains(ids, t.uniqueID) || slices.Contains(ids, t.parentID))
	})
	return append(b, `{"Success":true,"Data":"success"}`...)
}

func atoi(v []byte, fallback int) int {
	n, err := strconv.Atoi(string(v))
	if err != nil {
		return fallback
	}
	return n
}
