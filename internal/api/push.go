package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/aliyun"
	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A pushCall is a push action as it was read and judged.
type pushCall struct {
	push     push
	campaign store.NewCampaign
	bad      problems
}

// push stores a push as one campaign with its targets, or nothing. It reports
// all problems that the adapter and the database find, all at once.
func (s *Server) push(ctx context.Context, c *call) (*reply, error) {
	p := s.readPush(c)
	var stored int64
	var err error
	if stored, err = s.cfg.Store.StoreCampaign(ctx, c.caller, &p.campaign, len(p.bad) > 0); err == nil && len(p.bad) == 0 {
		failpoint.Hit("api.stored")
		return pushed(id{campaign: stored}), nil
	}
	var refusal store.CampaignRefusal
	switch taken := errors.Is(err, store.ErrTokenTaken); {
	case errors.As(err, &refusal):
		p.bad.ofDatabase(refusal.Text)
	case err != nil && !taken:
		return nil, err
	}
	if p.campaign.ClientToken == "" {
		return s.refuseCall(ctx, c, p.bad, p.push)
	}
	// A repeated call gets the answer of the first one, on whatever day it is repeated.
	stored, same, err := s.cfg.Store.CampaignOfToken(ctx, c.caller, p.campaign.AppID, p.campaign.WorkspaceID, p.campaign.ClientToken, p.campaign.Digest)
	switch {
	case err == nil && same:
		return pushed(id{campaign: stored}), nil
	case err == nil:
		p.bad = problems{{"ClientToken", "was used by a call with other content"}}
	case !errors.Is(err, store.ErrNoCampaign):
		return nil, err
	case len(p.bad) == 0:
		p.bad = problems{{"ClientToken", "was used by somebody else"}}
	}
	return refused(p.bad, p.push), nil // the look-up has used the nonce
}

func pushed(of id) *reply {
	return &reply{code: "OK", fields: aliyun.Fields{
		{Name: "ResultCode", Value: "OK"},
		{Name: "ResultMessage", Value: "success"},
		{Name: "PushResult", Value: aliyun.Fields{
			{Name: "Success", Value: true}, {Name: "ResultMsg", Value: "success"}, {Name: "Data", Value: of.String()},
		}},
	}}
}

// refuseCall refuses a call that stored nothing. Such a call uses its nonce as well.
func (s *Server) refuseCall(ctx context.Context, c *call, bad problems, of push) (*reply, error) {
	if err := s.cfg.Store.UseNonce(ctx, c.caller.Nonce); err != nil {
		return nil, err
	}
	return refused(bad, of), nil
}

func refused(bad problems, of push) *reply {
	code, why := bad.code(of), bad.String()
	return &reply{code: code, fields: aliyun.Fields{
		{Name: "ResultCode", Value: code},
		{Name: "ResultMessage", Value: why},
		{Name: "PushResult", Value: aliyun.Fields{{Name: "Success", Value: false}, {Name: "ResultMsg", Value: why}}},
	}}
}

// readPush reads the call's parameters and has the adapter judge the request.
func (s *Server) readPush(c *call) *pushCall {
	action := pushes[c.action]
	p := &pushCall{push: action.push}
	n := &p.campaign
	n.Channel = action.channel
	n.Name = c.params.Get("TaskName")
	n.AppID, n.WorkspaceID = needApp(c.params, &p.bad)
	p.readStrategy(c.params)
	p.readPolicies(c.params)
	if n.ClientToken != "" {
		n.Digest = digest(c)
	}
	request := readRequest(c.params, n.Channel, &p.bad)
	body, err := json.Marshal(request)
	if err != nil {
		p.bad.add("request", "cannot be written as JSON")
		return p
	}
	message, found := s.cfg.Compile(n.AppID, n.WorkspaceID, dispatch.Request{
		Channel: n.Channel, TaskName: n.Name, Body: body, StrategyType: int(n.StrategyType),
	})
	p.bad.ofAdapter(found)
	p.takeTargets(request, message)
	n.Request, _ = json.Marshal(request) // it was JSON before, so this cannot fail
	return p
}

// takeTargets moves the targets out of the request, to be stored in campaign_targets.
func (p *pushCall) takeTargets(request map[string]any, message *dispatch.Message) {
	name := map[push]string{simple: "TargetMsgkey", template: "TargetMsgkey", multiple: "TargetMsg"}[p.push]
	if name == "" {
		return
	}
	if _, given := request[documented(name)]; !given && !slices.ContainsFunc(p.bad, func(q problem) bool { return strings.HasPrefix(q.param, name) }) {
		p.bad.add(name, "is missing: there are no targets")
	}
	delete(request, documented(name))
	if message == nil {
		return
	}
	for _, t := range message.Inline {
		p.campaign.Targets = append(p.campaign.Targets, store.Target{
			Target: t.Target, MsgKey: t.MsgKey, TemplateKeyValue: t.TemplateKeyValue, ExtendedParams: t.ExtendedParams,
		})
	}
}

func (p *pushCall) readStrategy(params aliyun.Params) {
	switch kind := params.Get("StrategyType"); kind {
	case "", "0":
	case "1", "2":
		p.campaign.StrategyType = int16(kind[0] - '0')
	default:
		p.bad.add("StrategyType", "must be 0 now, 1 at a fixed time or 2 in a loop, not %.20q", kind)
		return
	}
	content, err := params.Tree("StrategyContent")
	if err != nil {
		p.bad.add("StrategyContent", "is given both whole and key by key")
	} else if params.Get("StrategyContent") == "" {
		content = withNumbers(content)
	}
	if p.campaign.StrategyType == 0 || content == "" {
		return
	}
	// JSON in a string keeps faults that jsonb would lose: a key that is given
	// twice, text after the object. The documents' own sample is such a string.
	if strings.HasPrefix(strings.TrimSpace(content), `"`) && json.Valid([]byte(content)) {
		p.campaign.StrategyContent = []byte(content)
		return
	}
	p.campaign.StrategyContent, _ = json.Marshal(content) // a string has a JSON form
}

// numbers are the keys of StrategyContent whose values are numbers.
var numbers = []string{"fixedTime", "startTime", "endTime", "circleType", "circleValue"}

// withNumbers returns a strategy that was given key by key, where every value is a
// text, with numbers where the documents have numbers. A text that is no number
// stays as it is, so that the rules judge it.
func withNumbers(content string) string {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(content), &object) != nil {
		return content
	}
	for _, name := range numbers {
		var one string
		var list []string
		switch raw := object[name]; {
		case json.Unmarshal(raw, &one) == nil && isNumber(one):
			object[name] = json.RawMessage(one)
		case json.Unmarshal(raw, &list) == nil && !slices.ContainsFunc(list, func(s string) bool { return !isNumber(s) }):
			object[name] = json.RawMessage("[" + strings.Join(list, ",") + "]")
		}
	}
	text, err := json.Marshal(object)
	if err != nil {
		return content
	}
	return string(text)
}

func isNumber(s string) bool {
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && strconv.FormatInt(n, 10) == s
}

// maxSeconds is the longest catch-up window, maxSpread the longest spread.
const (
	maxSeconds = int64(strategy.MaxCatchUpWindow / time.Second)
	maxSpread  = int64(judge.MaxSpread / time.Second)
)

// readSeconds reads a length of time from one to most seconds; zero: the parameter is
// not given, or bad.
func (p *pushCall) readSeconds(params aliyun.Params, name string, most int64) time.Duration {
	value := params.Get(name)
	if value == "" {
		return 0
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 1 || seconds > most {
		p.bad.add(name, "must be a number of seconds from 1 to %d, not %.20q", most, value)
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// readPolicies reads the parameters that mPaaS does not have.
func (p *pushCall) readPolicies(params aliyun.Params) {
	n := &p.campaign
	n.TimeZone = params.Get("TimeZone")
	n.MisfirePolicy = oneOf(params, "MisfirePolicy", &p.bad, "latest", "all", "skip")
	n.ShortMonthPolicy = oneOf(params, "ShortMonthPolicy", &p.bad, "skip", "last_day")
	n.DSTGapPolicy = oneOf(params, "DstGapPolicy", &p.bad, "shift", "skip")
	n.QuietPolicy = oneOf(params, "QuietPolicy", &p.bad, "hold", "skip", "ignore")
	p.readTimes(params)
	n.Calendar = params.Get("Calendar")
	n.CalendarPolicy = oneOf(params, "CalendarPolicy", &p.bad, "skip", "next_open", "previous_open")
	switch value := params.Get("ResendUnknown"); strings.ToLower(value) { // Python writes True
	case "":
	case "true", "1":
		n.ResendUnknown = new(true)
	case "false", "0":
		n.ResendUnknown = new(false)
	default:
		p.bad.add("ResendUnknown", "must be true or false, not %.40q", value)
	}
	if window := p.readSeconds(params, "CatchUpWindow", maxSeconds); window > 0 {
		n.CatchUpWindow = &window
	}
	n.Spread = p.readSeconds(params, "Spread", maxSpread) // the database checks that it is not longer than the window
	token := params.Get("ClientToken")
	if len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		p.bad.add("ClientToken", "must have 1 to %d visible ASCII characters", maxToken)
		return
	}
	n.ClientToken = token
}

const maxToken = 64

// readTimes reads the times of day: with commas, as a JSON list, or one by one as
// Times.1, Times.2. The database judges them.
func (p *pushCall) readTimes(params aliyun.Params) {
	text := params.Get("Times")
	items, err := params.List("Times")
	var list []string
	switch {
	case err != nil || text != "" && len(items) > 0:
		p.bad.add("Times", "is given both whole and one by one, or not counted from 1")
	case len(items) > 0:
		for _, item := range items {
			p.campaign.Times = append(p.campaign.Times, item.Fields[""])
		}
	case text == "":
	case json.Unmarshal([]byte(text), &list) == nil:
		p.campaign.Times = list
	default:
		p.campaign.Times = strings.Split(text, ",")
	}
}

func oneOf(params aliyun.Params, name string, bad *problems, words ...string) string {
	value := params.Get(name)
	if value != "" && !slices.Contains(words, value) {
		last := len(words) - 1
		bad.add(name, "must be %s or %s, not %.40q", strings.Join(words[:last], ", "), words[last], value)
		return ""
	}
	return value
}

// signing are the parameters that differ between a call and its repetition.
var signing = []string{
	"AccessKeyId", "Format", "RegionId", "SecurityToken", "Signature", "SignatureMethod", "SignatureNonce", "SignatureType", "SignatureVersion",
	"Timestamp", "Version",
}

// digest returns a hash by which a repeated call is recognised.
func digest(c *call) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%q", c.action)
	for _, p := range c.params {
		if p.Name != "Action" && !slices.Contains(signing, p.Name) {
			fmt.Fprintf(h, "%q=%q", p.Name, p.Value)
		}
	}
	return h.Sum(nil)
}
