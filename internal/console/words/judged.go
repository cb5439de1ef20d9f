package words

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// The rules of a strategy and of the push APIs, what is wrong with a campaign's
// columns, and schedules in words are written in English by packages that know no
// language: SQL and the command line show them as they are. Here are the same
// sentences in Chinese. Tests hold them against every case that the strategy's and
// the adapters' own tests have, and against the adapters' source.

// A sentence is one in English, with a group for each part that stays as it is,
// and the same in Chinese, where ${1} is the first of them.
type sentence struct {
	english func() *regexp.Regexp // compiled at its first use: most commands need none of them
	chinese string
	nested  bool // the last part is a sentence of the same list
}

// sentences makes them from pairs; %s in the English stands for such a part, and
// %t at the end for one that is a sentence itself.
func sentences(pairs ...string) []sentence {
	list := make([]sentence, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		english := strings.NewReplacer("%s", "(.+?)", "%t", "(.+?)").Replace(regexp.QuoteMeta(pairs[i]))
		compiled := sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("(?s)^" + english + "$") })
		list = append(list, sentence{compiled, pairs[i+1], strings.HasSuffix(pairs[i], "%t")})
	}
	return list
}

// said returns the Chinese of a whole text.
func said(list []sentence, text string) (string, bool) {
	for _, s := range list {
		parts := s.english().FindStringSubmatch(text)
		if parts == nil {
			continue
		}
		var pairs []string
		for i, part := range parts[1:] {
			if s.nested && i == len(parts)-2 {
				inner, ok := said(list, part)
				if !ok {
					return text, false
				}
				part = inner
			}
			pairs = append(pairs, "${"+strconv.Itoa(i+1)+"}", phrase(part))
		}
		return strings.NewReplacer(pairs...).Replace(s.chinese), true
	}
	return text, false
}

// phrases are parts of sentences that the adapters' packages write; a value that
// somebody gave stands in quotes there.
var phrases = map[string]string{
	"a string": "字符串", "a list": "列表", "an object": "对象", "a number": "数字", "a boolean": "布尔值", "null": "null", "invalid": "无效内容", "a target": "目标",
}

// choices are words to choose from, as "1, 2 or 7".
var choices = regexp.MustCompile(`^[\w-]+(, [\w-]+)* or [\w-]+$`)

// phrase says a part of a sentence that is none of the reader's own words.
func phrase(part string) string {
	if chinese, ok := phrases[part]; ok {
		return chinese
	}
	if choices.MatchString(part) {
		return strings.NewReplacer(", ", "、", " or ", " 或 ").Replace(part)
	}
	return part
}

// rules are what a problem or a warning begins with.
var rules = sentences(
	"is required", "必填",
	"is required for strategy type %s", "策略类型 ${1} 必须填写",
	"is required for a weekly or monthly loop", "按周或按月循环必须填写",
	"is ignored: strategy type 0 (now) has none", "被忽略：策略类型 0（立即）没有它",
	"is ignored: it belongs to strategy type %s", "被忽略：它属于策略类型 ${1}",
	"is ignored: a daily loop pushes on every day", "被忽略：每日循环每天都推送",
	"is ignored: the column times stands in its place", "被忽略：由 times 列代替",
	"is not a key of StrategyContent", "不是 StrategyContent 的键",
	"appears more than once", "出现了多次",
	"must be valid JSON with nothing after it", "必须是有效的 JSON，后面不能有其他内容",
	"must not be longer than %s characters", "不能超过 ${1} 个字符",
	"must be a JSON object", "必须是 JSON 对象",
	"must not hold a number beyond what PostgreSQL stores", "不能含有超出 PostgreSQL 存储范围的数",
	"must be from 1 second to 24 hours", "必须在 1 秒至 24 小时之间",
	"must not be longer than catch_up_window", "不能比 catch_up_window 更长",
	"must not be further in the past than catch_up_window", "不能比 catch_up_window 更早",
	"must be Unix milliseconds of the years 1970 to 9999", "必须是 1970 至 9999 年之间的 Unix 毫秒数",
	"must be a whole number", "必须是整数",
	"must be a whole number, not a fraction", "必须是整数，不能是小数",
	"must fit into 64 bits", "必须在 64 位整数范围内",
	"must yield at least one occurrence from now on", "从现在起必须至少有一次推送",
	"must not lie before startTime", "不能早于 startTime",
	"must lie at most 180 days after today", "不能晚于今天之后 180 天",
	"must not lie before today 00:00", "不能早于今天 00:00",
	"must be 1 (daily), 2 (weekly) or 3 (monthly)", "必须是 1（每日）、2（每周）或 3（每月）",
	"must be an array of whole numbers", "必须是整数数组",
	"must not be empty", "不能为空",
	"must hold whole numbers only", "只能含有整数",
	"must hold days from 1 (Monday) to 7 (Sunday)", "只能含有 1（周一）至 7（周日）",
	"must hold days from 1 to 31", "只能含有 1 至 31",
	"must not hold a day twice", "同一天不能出现两次",
	"must be a time of day from 00:00:00 to 23:59:59", "必须是 00:00:00 至 23:59:59 的时刻",
	"must not hold more than 24 times", "不能超过 24 个时刻",
	"must hold times of day from 00:00:00 to 23:59:59", "只能含有 00:00:00 至 23:59:59 的时刻",
	"is ignored: it belongs to strategy types 1 (fixed time) and 2 (loop)", "被忽略：它属于策略类型 1（固定时间）和 2（循环）",
	"must be skip, next_open or previous_open", "必须是 skip、next_open 或 previous_open",
	"must come with a calendar", "必须同时有 calendar",
	"must be a calendar in scheduler.calendars", "必须是 scheduler.calendars 中的日历",
	"must not lie on a day that the calendar closes", "不能落在日历的休息日",
	"must have an open day of the calendar within 31 days to move to", "31 天内必须有日历的开放日可移",
	"is not asked here: only the database knows which days it closes", "此处不判断：只有数据库知道它的休息日",
	"must not hold a time twice", "同一时刻不能出现两次",
	"must be 0 (now), 1 (fixed time) or 2 (loop)", "必须是 0（立即）、1（固定时间）或 2（循环）",
	"must be an IANA time zone, spelt as the IANA database spells it", "必须是 IANA 时区名，写法与 IANA 数据库一致",
	"must be skip or last_day", "必须是 skip 或 last_day",
	"must be shift or skip", "必须是 shift 或 skip",
	"must be longer than zero and at most 36525 days", "必须大于零且不超过 36525 天",
	"must be latest, all or skip, not %s", "必须是 latest、all 或 skip，不能是 ${1}",
	"must be hold, skip or ignore", "必须是 hold、skip 或 ignore",
	"must be hold, skip or ignore, not %s", "必须是 hold、skip 或 ignore，不能是 ${1}",
	"ignore has to be allowed by an admin for the campaign's channel or name", "ignore 须由管理员为该活动的渠道或名称允许",
	"must be an interval such as 1h30m or '1 hour', not %s", "必须是时长，例如 1h30m 或 '1 hour'，不能是 ${1}",
	"must be one of %s, not %s", "必须是以下之一：${1}；不能是 ${2}",
	"%s does not fit the app's provider, %s", "${1} 与应用的推送方 ${2} 不符",
	"%s with the workspace_id %s is no app of the configuration", "${1}（workspace_id ${2}）不是配置中的应用",
	"must not name a target twice", "同一目标不能出现两次",

	// what a release of the hold would do
	"push when due", "到时推送",
	"push at once", "立即推送",
	"miss: the catch-up window closed", "记为错过：补推窗口已关闭",

	// requests, for any push API
	"is missing", "缺少",
	"is empty", "为空",
	"is not JSON", "不是 JSON",
	"is nested too deeply", "嵌套太深",
	"is given twice", "出现了两次",
	"is given more than once", "出现了多次",
	"is too large a number", "数值太大",
	"has text after the JSON value", "JSON 值之后还有其他内容",
	"has text after the JSON object", "JSON 对象之后还有其他内容",
	"has %s bytes, and at most %s are allowed", "有 ${1} 字节，最多允许 ${2} 字节",
	"has more than %s bytes", "超过 ${1} 字节",
	"… and %s more problems", "……还有 ${1} 个问题",
	"is not a channel of %s", "不是 ${1} 的通道",
	"%s is not a channel of %s", "${1} 不是 ${2} 的通道",

	// requests to mPaaS
	"must not be empty: it is the push's taskName", "不能为空：它就是推送的 taskName",
	"must be a whole number, not %s", "必须是整数，不能是 ${1}",
	"must be a number of seconds greater than 0, not %s", "必须是大于 0 的秒数，不能是 ${1}",
	"must be a time in Unix seconds, not %s", "必须是 Unix 秒数的时间，不能是 ${1}",
	"must not hold a comma: %s", "不能含有逗号：${1}",
	"must have an hms category from \"1\" to \"%s\", not %s", "hms 的类别必须是 \"1\" 至 \"${1}\"，不能是 ${2}",
	"must have an hms level of \"1\" or \"2\", not %s", "hms 的级别必须是 \"1\" 或 \"2\"，不能是 ${1}",
	"must hold texts for placeholders, and %s is %s", "占位符的值必须是文本，而 ${1} 是${2}",
	"must hold strings only, and %s is %s", "只能含有字符串，而 ${1} 是${2}",
	"must hold a msgKey for each target, and that of %s is %s", "每个目标都必须有 msgKey，而 ${1} 的是${2}",
	"must be a list of targets, not %s", "必须是目标的列表，不能是${1}",
	"must be an object, or a string that holds one, not %s", "必须是对象，或含有对象的字符串，不能是${1}",
	"must be empty: %s takes no targets", "必须为空：${1} 不接受目标",
	"must be %s for mpaas.%s, not %s", "用于 mpaas.${2} 时必须是 ${1}，不能是 ${3}",
	"has %s keys, and at most %s are allowed", "有 ${1} 个键，最多允许 ${2} 个",
	"has values of its own, which only mpaas.push_multiple can send", "带有自己的值，只有 mpaas.push_multiple 能发送",
	"has %s, which %t", "含有 ${1}，它${2}",
	"holds %s, which is one of the reserved keys %s", "含有 ${1}，它是保留键之一：${2}",
	"holds the key %s more than once", "键 ${1} 出现了多次",
	"holds a msgKey that %t", "其中一个 msgKey ${1}",
	"holds a target that %t", "其中一个目标${1}",
	"holds a string that %t", "其中的字符串${1}",
	"names %s targets, and at most %s are allowed: put them into campaign_targets", "有 ${1} 个目标，最多允许 ${2} 个：请写入 campaign_targets",
	"names the target %s more than once", "目标 ${1} 出现了多次",
	"names no targets: leave it out when they are in campaign_targets", "没有目标：目标在 campaign_targets 中时请不要写它",
	"names an analytics or tag audience, and scheduled and loop pushes to those are not supported: set strategy_type to 0, or allow_audience_schedules for the app",
	"指定了分析或标签人群，而对它们不支持定时和循环推送：请把 strategy_type 设为 0，或为应用设置 allow_audience_schedules",
	"is for activityEvent \"end\" only", "只用于 activityEvent \"end\"",
	"is missing: pushStatus 0, the default, needs it", "缺少：pushStatus 0（默认）需要它",
	"is missing: pushStatus %s needs it", "缺少：pushStatus ${1} 需要它",
	"contradicts pushStatus 0, which reaches bound devices only", "与 pushStatus 0 矛盾，它只推送给已绑定的设备",
	"contradicts pushStatus 2, which reaches unbound devices only", "与 pushStatus 2 矛盾，它只推送给未绑定的设备",
	"contradicts campaign_targets: name the targets in one of them", "与 campaign_targets 矛盾：目标只能写在其中一处",
	"does not belong in the request: it is the campaign's column %s", "不属于请求：它是活动的 ${1} 列",
	"is the same parameter as %s: keep one of them", "与 ${1} 是同一个参数：请只保留一个",
	"is not a parameter of this call", "不是这个调用的参数",
	"is not a parameter of %s, but of %s", "不是 ${1} 的参数，而是 ${2} 的",
	"is not a parameter of %s", "不是 ${1} 的参数",
	"is not a parameter", "不是参数",

	// requests to Alipay
	"holds %s items; at most %s are allowed", "有 ${1} 项，最多允许 ${2} 项",
	"is required for the first of several articles", "多篇文章中的第一篇必须填写",
	"is required with msg_type %s", "msg_type 为 ${1} 时必填",
	"belongs to msg_type %s, but msg_type is %s", "属于 msg_type ${1}，而 msg_type 是 ${2}",
	"is required: filter.template names ${%s}", "必填：filter.template 用到了 ${1}",
	"is not used: filter.template does not name ${%s}", "没有用到：filter.template 中没有 ${1}",
	`must be "${a}", or two variables joined by "and" or "or" as in "${a} and ${b}", not %s`,
	`必须是 "${a}"，或由 "and" 或 "or" 连接的两个变量，如 "${a} and ${b}"，不能是 ${1}`,
	"must be empty: a single send has none", "必须为空：单发没有它",
	"contradicts to_user_id: give one of the two", "与 to_user_id 矛盾：两者只能给一个",
	"contradicts campaign_targets, which holds this campaign's targets: remove one or the other", "与 campaign_targets 矛盾，活动的目标在那里：请删除其中之一",
	"only says what the rows of campaign_targets hold: remove it", "它只说明 campaign_targets 的行里是什么：请删除",
	"%s reaches the audience it names itself: remove the campaign's targets", "${1} 推送给它自己指定的受众：请删除活动的目标",

	"must be a string, not %s", "必须是字符串，不能是${1}",
	"must be a list, not %s", "必须是列表，不能是${1}",
	"must be an object, not %s", "必须是对象，不能是${1}",
	"must be %s, not %s", "必须是 ${1}，不能是 ${2}", // after those that it would take
)

// mends are what a problem ends with: how to put it right.
var mends = sentences(
	"write the moment of the push in Unix milliseconds", "请写推送时刻的 Unix 毫秒数",
	"write the first day as the Unix milliseconds of any moment in it", "请写第一天中任一时刻的 Unix 毫秒数",
	"write the last day as the Unix milliseconds of any moment in it", "请写最后一天中任一时刻的 Unix 毫秒数",
	"write 1 for daily, 2 for weekly or 3 for monthly", "每日写 1，每周写 2，每月写 3",
	`write the time of day as "HH:mm:ss"`, `请按 "HH:mm:ss" 写时刻`,
	`write each time of day as "HH:mm:ss"`, `请按 "HH:mm:ss" 写每个时刻`,
	"write at most 24, or divide them among several campaigns", "请最多写 24 个，或分成多个活动",
	"keep one of them", "请只保留一个",
	"hold pushes at the end of the app's quiet hours, skip leaves the occurrence out", "hold 在应用的免打扰时段结束时推送；skip 跳过这一次",
	"use hold or skip, or have an admin run %s", "请用 hold 或 skip，或请管理员执行 ${1}",
	"write a JSON object, or a JSON string that holds one", "请写 JSON 对象，或含有 JSON 对象的 JSON 字符串",
	"write {%s}", "请写 {${1}}",
	"remove it: the keys are %s", "请删除：可用的键是 ${1}",
	"remove it", "请删除",
	"keep one", "请只保留一个",
	"did you mean %s?", "是否想写 ${1}？",
	"it looks like seconds: write Unix milliseconds", "看起来是秒：请写 Unix 毫秒数",
	"it means %s and startTime means %s in %s", "它是 ${3} 的 ${1}，而 startTime 是 ${2}",
	"it means %s and today is %s in %s", "它是 ${3} 的 ${1}，而今天是 ${2}",
	"it means %s in %s: write a moment to come, or a longer catch_up_window", "它是 ${2} 的 ${1}：请写将来的时刻，或更长的 catch_up_window",
	"it means %s: write %s in %s or earlier", "它是 ${1}：请写 ${3} 的 ${2} 或更早",
	"write the days of the week, for example %s for Monday and Sunday", "请写星期几，例如 ${1} 表示周一和周日",
	"write the days of the month, for example %s", "请写每月的哪些天，例如 ${1}",
	"widen startTime to endTime, or change circleValue, %s, short_month_policy, dst_gap_policy or calendar_policy; calendar %s closes days among these", "请放宽 startTime 至 endTime，或修改 circleValue、${1}、short_month_policy、dst_gap_policy 或 calendar_policy；日历 ${2} 关闭了其中的日子",
	"it means %s in %s, where calendar %s is closed: write another moment, or calendar_policy next_open or previous_open", "它是 ${2} 的 ${1}，日历 ${3} 当时休息：请写其他时刻，或 calendar_policy next_open 或 previous_open",
	"it means %s in %s, where calendar %s is closed: write another moment", "它是 ${2} 的 ${1}，日历 ${3} 当时休息：请写其他时刻",
	"skip leaves out what falls on a closed day; next_open and previous_open move it to the nearest open day after or before", "skip 不推送休息日的；next_open 和 previous_open 把它移到之后或之前最近的开放日",
	"name a calendar in the column calendar, or leave calendar_policy out", "请在 calendar 列写日历名，或不填 calendar_policy",
	"widen startTime to endTime, or change circleValue, %s, short_month_policy or dst_gap_policy", "请放宽 startTime 至 endTime，或修改 circleValue、${1}、short_month_policy 或 dst_gap_policy",
	"leave it out to push at once", "不填即立即推送",
	"use an Area/Location name such as Asia/Shanghai, or UTC; abbreviations and offsets are not zones", "请用 Asia/Shanghai 这样的“地区/地点”名，或 UTC；缩写和偏移量不是时区",
	"skip leaves out a month without the day; last_day takes the month's last day instead", "skip 跳过没有这一天的月份；last_day 改用当月最后一天",
	"shift moves a local time that a clock change skips forward by the gap; skip leaves that day out", "shift 把被时钟调整跳过的时刻顺延；skip 跳过那一天",
	"write an interval such as '30 minutes', or none for all deliveries at once", "请写时长，例如 '30 minutes'，或不填，即全部立即发出",
	"deliveries after the end of the window would be missed: make the spread shorter or catch_up_window longer", "窗口结束后的调用会错过：请缩短分散时长，或加长 catch_up_window",
	"write an interval such as '1 hour'", "请写时长，例如 '1 hour'",
)

// longestJudged bounds in bytes what is taken apart. That takes time that grows
// faster than the square of the length, and a text may hold whatever was posted.
const longestJudged = 1000

// Judged says a problem or a warning in the reader's language. What is unknown
// here stays as it is, and so does what is long.
func (p Printer) Judged(text string) string {
	if p.lang != "zh" || len(text) > longestJudged {
		return text
	}
	// A problem is: rule; it is VALUE; mend. A value may hold anything, so that the
	// rule is found from the front and the mend from the back.
	for end := range cuts(text) {
		rule, ok := said(rules, text[:end])
		if !ok {
			continue
		}
		rest := text[end:]
		if rest == "" {
			return rule
		}
		for start := range cuts(rest) {
			if start == len(rest) {
				break
			}
			mend, ok := said(mends, rest[start+len("; "):])
			value := rest[:start]
			if ok && value == "" {
				return rule + "；" + mend
			} else if given, found := strings.CutPrefix(value, "; it is "); ok && found {
				return rule + "；现为 " + given + "；" + mend
			}
		}
		if given, found := strings.CutPrefix(rest, "; it is "); found {
			return rule + "；现为 " + given
		}
	}
	return text
}

// cuts yields where a text may be taken apart: before each "; ", and at its end.
func cuts(text string) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := 0; i < len(text); i++ {
			if strings.HasPrefix(text[i:], "; ") && !yield(i) {
				return
			}
		}
		yield(len(text))
	}
}

// schedules are the sentences of strategy.Schedule's Describe, in parts.
var (
	schedules = sentences(
		"never", "从不",
		"at once", "立即",
		"once, on %s at %s (%s)", "一次：${1} ${2}（${3}）",
	)
	loops  = regexp.MustCompile(`^(.+) at (\d\d:\d\d:\d\d(?:(?:, | and )\d\d:\d\d:\d\d)*) \((.+?)\), (on .+? only|from .+? to [^;]+)((?:; .*)?)$`)
	rhythm = sentences(
		"every day", "每天",
		"every month on days %s", "每月 ${1} 日", // before the one of weeks, which would take it
		"every month on day %s", "每月 ${1} 日",
		"every %s", "每${1}",
	)
	periods  = sentences("on %s only", "仅 ${1}", "from %s to %s", "${1} 至 ${2}")
	policies = sentences(
		"months without the day are left out", "没有这一天的月份跳过",
		"months without the day use their last day", "没有这一天的月份用当月最后一天",
		"where a clock change skips that time, it moves forward by the gap", "时钟调整跳过该时刻时顺延",
		"where a clock change skips that time, it leaves the day out", "时钟调整跳过该时刻时跳过当天",
		"where a clock change skips one of these times, it moves forward by the gap", "时钟调整跳过其中一个时刻时，该时刻顺延",
		"where a clock change skips one of these times, it is left out on that day", "时钟调整跳过其中一个时刻时，当天不在该时刻推送",
		"what falls on a closed day of calendar %s is left out", "日历 ${1} 的休息日不推送",
		"what falls on a closed day of calendar %s moves to the next open day", "日历 ${1} 的休息日顺延到下一个开放日",
		"what falls on a closed day of calendar %s moves to the previous open day", "日历 ${1} 的休息日提前到上一个开放日",
	)
	notes = sentences(
		"quiet hours: held until %s", "免打扰时段：推迟到 ${1}",
		"left out: quiet hours", "因免打扰时段跳过",
		"last day of a month without day %s", "当月没有 ${1} 日，改用最后一天",
		"moved forward by %s: a clock change skips %s", "时钟调整跳过 ${2}，顺延 ${1}",
		"moved from %s, closed in the calendar", "从日历休息日 ${1} 移来",
		"left out", "不推送",
		"left out: no open day is left", "不推送：再没有开放日",
		"left out: the open day lies in the past", "不推送：开放日已过",
		"left out: a clock change skips its time on the open day", "不推送：时钟调整跳过开放日的该时刻",
	)
	lists = strings.NewReplacer("Monday", "周一", "Tuesday", "周二", "Wednesday", "周三", "Thursday", "周四", "Friday", "周五", "Saturday", "周六", "Sunday", "周日",
		", ", "、", " and ", "和", " or ", "或")
)

// Schedule says a schedule that Describe wrote in the reader's language.
func (p Printer) Schedule(text string) string {
	if p.lang != "zh" {
		return text
	}
	if all, ok := said(schedules, text); ok {
		return lists.Replace(all)
	}
	m := loops.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	often, ok := said(rhythm, m[1])
	period, known := said(periods, m[4])
	if !ok || !known {
		return text
	}
	return lists.Replace(often) + " " + lists.Replace(m[2]) + "（" + m[3] + "），" + period + each(policies, m[5])
}

// Note says a note on an occurrence in the reader's language.
func (p Printer) Note(text string) string {
	if p.lang != "zh" || text == "" {
		return text
	}
	return lists.Replace(strings.TrimPrefix(each(notes, "; "+text), "；"))
}

// each says the parts of a text, every one of which begins with "; ".
func each(list []sentence, text string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(strings.TrimPrefix(text, "; "), "; ") {
		if part != "" {
			chinese, _ := said(list, part)
			b.WriteString("；" + chinese)
		}
	}
	return b.String()
}
