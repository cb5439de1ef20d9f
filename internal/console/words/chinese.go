package words

// chinese are the texts in simplified Chinese, by their English.
var chinese = map[string]string{
	"Mon": "周一", "Tue": "周二", "Wed": "周三", "Thu": "周四", "Fri": "周五", "Sat": "周六", "Sun": "周日",
	"in %s": "%s后", "%s ago": "%s前", "%s days": "%s 天",
	"%s ms": "%s 毫秒", "%s s": "%s 秒", "%s min": "%s 分钟", "%s h %s min": "%s 小时 %s 分钟",
	"Not found": "未找到", "Not allowed": "无权操作", "Changed meanwhile": "其间已改动", "Not done": "未执行", "Not now": "暂时不行",

	// statuses
	"pending": "待推送", "running": "推送中", "succeeded": "成功", "failed": "失败", "missed": "错过", "cancelled": "已取消", "unknown": "结果不明", "held": "已挂起", "planned": "已计划",
	"active": "生效", "paused": "已暂停", "finished": "已结束", "rejected": "被拒绝",
	// what was done
	"update": "修改", "pause": "暂停", "resume": "恢复", "cancel": "取消", "delete": "删除", "reject": "拒绝", "finish": "结束", "trigger": "立即推送", "rule": "裁定",
	"hold": "挂起", "release": "解除挂起", "skip": "跳过一次", "unskip": "恢复跳过的一次", "revoke": "撤回",
	"waiting": "等待中", "revoked": "已撤回", "refused": "被拒绝", "unsupported": "不支持",

	// every page
	"Scheduler": "推送调度", "Skip to the page": "跳到正文", "Pages": "页面", "Overview": "总览", "Calendar": "日历", "Campaigns": "活动", "Tasks": "任务",
	"Unknown outcomes": "结果不明", "Limits": "上限", "Lateness": "延迟", "Audit": "审计", "Hold": "挂起", "Sign out": "退出", "Release": "解除",
	"Held: nothing begins on any daemon.": "已挂起：任何守护进程都不会开始推送。", "No daemon is running: nothing is pushed.": "没有守护进程在运行：什么都不会推送。",
	"Language": "语言", "Zone of all times": "统一时区", "each campaign's own": "各活动自己的", "Apply": "应用", "Find": "查找", "Older": "更早", "all": "全部", "More": "更多",
	"Go back": "返回", "Why": "原因", "When": "时间", "Who": "谁", "What": "做了什么", "Which": "对象", "campaign": "活动", "task": "任务", "yes": "是", "no": "否",
	"Nothing yet.": "还没有。", "Nothing.": "没有。",

	// what goes wrong
	"You are not signed in any more. Sign in again; nothing was changed.":                      "登录已失效。请重新登录；没有任何改动。",
	"Something went wrong here. It is in the log.":                                             "这里出错了，已写入日志。",
	"There is no such page, or you may not see it.":                                            "没有这个页面，或者你无权查看。",
	"The form could not be read. Go back and try again.":                                       "表单无法读取。请返回重试。",
	"This takes too long. Narrow it by app, campaign or time.":                                 "耗时过长。请按应用、活动或时间缩小范围。",
	"Somebody changed the campaign meanwhile. Nothing of yours was written; look at it again.": "其间有人改动了这个活动。你的改动没有写入；请再看一遍。",
	"Your database role may not do this.":                                                      "你的数据库角色无权这样做。",
	"The database does not answer now. Try again.":                                             "数据库暂时没有响应。请重试。",
	"Too many people look at pages now. Try again.":                                            "现在查看页面的人太多。请重试。",

	// the way in
	"Your organisation says who you are. You see and do here what your database role may.": "由贵组织确认你的身份。你在这里能看到和能做的，以你的数据库角色为准。",
	"Sign in through %s": "通过 %s 登录", "Sign out there, too": "同时在那里退出",
	"The identity provider did not say who you are, or its answer cannot be trusted. Sign in again; the log says more.": "身份提供方没有说明你是谁，或者它的答复不可信。请重新登录；日志中有详情。",
	"The identity provider cannot be asked now. Try again; the log says more.":                                          "现在无法访问身份提供方。请重试；日志中有详情。",
	"This sign-in was used already, took too long, or began in another browser. Sign in again.":                         "这次登录已经用过、超时，或者是在另一个浏览器中开始的。请重新登录。",
	"It is known who you are, but no rule gives you a role here. Ask an admin.":                                         "已确认你的身份，但没有规则给你这里的角色。请联系管理员。",
	"Your database role cannot be used here, or not any more. Ask an admin.":                                            "你的数据库角色在这里不能使用，或者不能再使用。请联系管理员。",
	"The proxy in front signs people in, and it does not say who you are.":                                              "由前面的代理负责登录，但它没有说明你是谁。",
	"The request names more than one person. Nothing was done.":                                                         "这个请求说明了不止一个人。什么都没有做。",
	"The proxy in front signs people in and out. Sign out there.":                                                       "登录和退出都由前面的代理负责。请在那里退出。",
	"Sign in": "登录", "Database login": "数据库账号", "Password": "密码",
	"Use your own database login. You see and do here what it may see and do in SQL.":                   "用你自己的数据库账号登录。你在这里能看和能做的，与它在 SQL 里一样。",
	"Too many attempts. Wait a minute and try again.":                                                   "尝试次数太多。请等一分钟再试。",
	"The database does not know this login, or the password is wrong.":                                  "数据库不认识这个账号，或者密码不对。",
	"This login has no rights in the scheduler. Ask an admin for scheduler_author or scheduler_reader.": "这个账号在调度器里没有权限。请向管理员申请 scheduler_author 或 scheduler_reader。",
	"This link does not work any more":                                                                  "这个链接已经失效",
	"A sign-in link works once and for 15 minutes. Start the program again for a new one.":              "登录链接只能用一次，15 分钟内有效。重新启动程序可以得到新的。",
	"This link signs you in as the owner of the embedded database. It works once.":                      "这个链接以内嵌数据库所有者的身份登录，只能用一次。",

	// overview
	"There is no campaign yet.": "还没有活动。", "Write the first one": "写第一个活动",
	"Whoever may write campaigns inserts the first one with SQL or at this console.": "有权写活动的人可以用 SQL 或在这里插入第一个。",
	"wait for a ruling": "等待裁定", "overdue and not begun": "已到时间而未开始", "failed or missed in 24 hours": "24 小时内失败或错过", "campaigns rejected": "被拒绝的活动",
	"waits for": "等待", "quiet": "免打扰", "Quiet hours": "免打扰时段", "Quiet hours hold it, or leave it out": "免打扰时段推迟或跳过了它", "Held until quiet hours end": "推迟到免打扰时段结束", "Left out for quiet hours": "因免打扰时段跳过",
	"What is due within the app's quiet hours": "在应用的免打扰时段内到期的", "is held until they end": "推迟到时段结束", "is pushed all the same, where an admin allows it": "照常推送（须管理员允许）",
	"what is due within them is left out": "时段内到期的跳过", "ignored, as an admin allows": "经管理员允许，不受其限制", "what is due within them is held until they end": "时段内到期的推迟到其结束", "Next": "接下来", "Last": "最近", "Nothing is to come.": "接下来没有推送。", "Nothing was decided in the last 7 days.": "最近 7 天没有结果。",

	// lists
	"Due": "应推送时间", "Campaign": "活动", "Status": "状态", "Reason": "原因", "App": "应用", "Channel": "通道", "Outcome": "结果", "Outcomes": "结果", "Last outcome": "最近结果",
	"Targets": "目标数", "Part of the name": "名称包含", "No campaign matches.": "没有符合的活动。", "No task matches.": "没有符合的任务。",
	"Campaign number": "活动编号", "Since": "自", "Until": "至", "A time is written as 2006-01-02 or 2006-01-02 15:04:05.": "时间写作 2006-01-02 或 2006-01-02 15:04:05。",

	// one campaign
	"Pause": "暂停", "Resume": "恢复", "Edit": "编辑", "Cancel the campaign": "取消活动", "Copy": "复制", "Push once now": "立即推送一次",
	"Skip this occurrence": "跳过这一次", "Take the skip back": "恢复这一次", "skipped by %s": "已被 %s 跳过",
	"What it is": "内容", "Zone": "时区", "Stored targets": "已存的目标", "Catch-up window": "补推窗口", "Spread": "分散时长", "Misfire policy": "错过时的策略",
	"Send again when the outcome is unknown": "结果不明时重发", "Written by": "创建者", "Changed by": "修改者", "Request and strategy": "请求与策略", "Who did what": "操作记录",
	"Nothing of it is pushed any more, and what was not begun is recorded as cancelled. This cannot be taken back.": "它不再推送，尚未开始的记为已取消。此操作不能撤回。",
	"It is pushed at once to all its targets, beside its strategy.":                                                 "在策略之外，立即向它的全部目标推送一次。",

	// the form
	"New campaign": "新建活动", "Name": "名称", "At once": "立即", "Once, at a fixed time": "一次，在固定时间", "Again and again": "循环", "the app's": "应用的时区",
	"Fixed time": "固定时间", "First day": "第一天", "Last day": "最后一天", "Time of day": "时刻", "Several times of day, in place of the one above": "每天多个时刻，代替上面的一个", "How often": "频率",
	"Closed days": "休息日", "Calendar of open days": "开放日日历", "none: every day is open": "无：每天都开放", "What falls on a closed day": "落在休息日的推送",
	"moves to the next open day": "顺延到下一个开放日", "moves to the previous open day": "提前到上一个开放日", "On closed days of calendar %s": "在日历 %s 的休息日",
	"Calendars": "开放日日历", "Which days are open. An admin writes them, with SQL or with scheduler calendars import.": "哪些天开放。管理员用 SQL 或 scheduler calendars import 编写。",
	"Open weekdays": "每周开放", "Days that differ": "例外日", "The last of them": "最后一个例外日", "There is none yet.": "还没有。", "Open": "开放", "open": "开放", "closed": "休息",
	"No day of this year differs from its weekday.": "这一年没有例外日。", "Calendars of open and closed days": "开放日与休息日的日历",
	"every day": "每天", "on days of the week": "每周的某些天", "on days of the month": "每月的某些天",
	"Days (week: 1 Monday to 7 Sunday; month: 1 to 31)":     "哪些天（周：1 周一至 7 周日；月：1 至 31）",
	"Request: the push API's own parameters, as JSON":       "请求：推送接口自己的参数，JSON",
	"Targets, one a line (none: they stand in the request)": "目标，每行一个（不填：写在请求里）",
	"How late it may still be pushed":                       "最迟可晚多久推送",
	"Spread: over how long its deliveries go out, evenly":   "分散时长：在多长时间内均匀发出",
	"Of several missed ones":                                "错过多次时", "push the latest": "推送最近一次", "push all": "全部补推", "push none": "都不推送",
	"A month without the day": "没有这一天的月份", "is left out": "跳过", "uses its last day": "用当月最后一天",
	"A time that a clock change skips": "时钟调整跳过的时刻", "moves forward by the gap": "顺延相应时长", "Audience view": "受众视图",
	"Send again when the outcome is unknown: it may arrive twice": "结果不明时重发：可能收到两次", "Store it paused": "存为已暂停",
	"Show what it comes to": "看看结果", "Change it": "确认修改", "Store it": "确认保存", "What it comes to": "结果",
	"What else the app pushes in that hour": "这个应用在那一小时还推送", "What changes": "改动", "Column": "列", "Before": "之前", "After": "之后", "The same as SQL": "等价的 SQL",
	"Nothing is wrong with it. Look at what it comes to, then say so below the form.": "没有问题。看过结果后，在表单下方确认。",
	"Some fields are wrong. Each says why; nothing is stored yet.":                    "有些字段不对，原因写在旁边；还没有保存任何内容。",
	"Effect on cap and quota": "对上限和配额的影响", "Counted": "项目", "To what it comes to": "看结果", "Without it": "没有它时", "With it": "有它时",
	"Nothing waits or is missed through it until %s.":                                  "到 %s 为止，不会因它而有等待或错过。",
	"Something waits or is missed through it until %s.":                                "到 %s 为止，会因它而有等待或错过。",
	"It pushes nothing until then.":                                                    "在此之前它不推送。",
	"It is paused: this holds once it is resumed.":                                     "它已暂停：恢复后才会这样。",
	"Not everything could be looked at: it may be more.":                               "未能查看全部：可能更多。",
	"It takes too long to work this out now. The campaign can be stored all the same.": "现在算出这些耗时过长。活动仍然可以保存。",
	"Pushes of the app": "应用的推送次数", "Pending tasks, the earliest of them": "其中最早的作为待推送任务", "Due in its fullest second": "它最满的一秒内到期",
	"Calls of %s in the fullest 7 days": "%s 在最满的 7 天内的调用", "It reaches the same users %s times in 7 days.": "它在 7 天内会触达同一用户 %s 次。",
	"choose one of the apps": "请选择一个应用",

	// one task
	"Task": "任务", "First call": "首次调用", "late by %s": "晚 %s", "Decided": "结果记录于", "Calls begun": "已发起的调用", "Code": "代码", "Message": "消息",
	"Request id": "请求编号", "Message id": "消息编号", "Deliveries": "调用", "Reason of the first": "首个原因", "%s targets": "%s 个目标",

	// rulings
	"Rule on it": "裁定", "Rule": "裁定", "It was sent": "已送出", "It was not sent": "未送出", "It was not sent: send it again": "未送出：再推送一次",
	"Find out first whether the provider took it: its own console shows what arrived.":            "先弄清推送方是否收到：它自己的控制台会显示。",
	"What was accepted is not sent again; the rest is pushed at once with the same message keys.": "已被接受的不会重发；其余的用相同的消息键立即推送。",
	"Say why: it is kept with what you do.":                                                       "请写明原因：它与你的操作一起保存。",
	"Take back what was accepted":                                                                 "撤回已被接受的推送", "Take it back": "撤回", "Taken back": "撤回情况",
	"Of this target only (empty: of all)": "只撤回这一个目标的（不填：全部）",
	"The provider is asked to take back every delivery that it accepted. Devices that have shown the message keep it, and some providers take nothing back. This cannot be undone, and the outcome of the task stays as it is.": "将请求推送方撤回它已接受的每一次投递。已显示消息的设备仍会保留，有的推送方不支持撤回。此操作不能撤销，任务的结果保持不变。",
	"The call was begun and nobody knows whether the provider took it. It is never sent again by itself.":                                                                                                                       "调用已经发起，但没有人知道推送方是否收到。它不会自动重发。",
	"There are more. Rule on these first.": "还有更多。请先裁定这些。", "Nothing waits for a ruling.": "没有等待裁定的任务。",

	// calendar
	"Earlier": "更早", "Today": "今天", "Later": "更晚", "Month": "月", "Week": "周", "Day": "日",
	"Tasks by status; planned are the coming occurrences that are no task yet.":                               "各状态的任务数；“已计划”是尚未成为任务的后续推送。",
	"Not every campaign could be looked at: there may be more. Choose an app.":                                "未能查看全部活动：可能还有更多。请选择一个应用。",
	"There are too many planned occurrences: those after %s are left out. Choose an app, or a week or a day.": "计划的推送过多：%s 之后的未显示。请选择一个应用，或改看周、日视图。",
	"Waits for a quota, or is missed by it":                                                                   "等待配额，或因配额而错过", "peak": "高峰", "quota": "配额", "There are more.": "还有更多。",

	"Looked back to %s; to look further takes longer.":                                                        "已向前查看到 %s；再往前需要更长时间。",
	"Looked back to %s; to look further takes longer. Choose a campaign or an app, or go on with older ones.": "已向前查看到 %s；再往前需要更长时间。请选择一个活动或应用，或继续查看更早的。",

	// limits and lateness
	"There are more apps than were looked at, and some may be as full. Choose an app.": "还有应用未查看，其中可能有同样满的。请选择一个应用。",
	"These are the fullest. Choose an app for all of its own.":                         "这些是占用最高的。选择一个应用可查看它的全部配额。",

	"Pending tasks of each app": "各应用的待推送任务", "Pending tasks of %s": "%s 的待推送任务", "Pending": "待推送", "Limit": "上限", "How full": "占用",
	"No app is yours to see.": "没有你可以查看的应用。", "Calls in any 7 days": "任意 7 天内的调用", "Calls of %s in 7 days": "%s 在 7 天内的调用", "Used": "已用", "Quota": "配额",
	"The next becomes free": "下一次释放", "The last 7 days": "最近 7 天", "When the calls of %s were in the last 7 days": "最近 7 天内 %s 的各次调用时间", "No channel has a quota.": "没有通道设有配额。",
	"Targets a second": "每秒目标数",
	"The next 14 days": "未来 14 天", "%s occurrences until %s": "到 %[2]s 为止有 %[1]s 次", "At least %s occurrences until %s": "到 %[2]s 为止至少有 %[1]s 次",
	"Missed by a quota": "因配额而错过", "Waiting for a quota": "等待配额", "the next becomes free": "下一次释放",
	"More due in one second than may be pending; the rest follows at once": "一秒内到期的多于可待推送的；其余随即跟上", "Held back by calls or targets per second": "受每秒调用数或目标数限制", "Spread out, to the last call": "分散发出，直到最后一次调用",
	"Reaching the same users more than once in 7 days": "7 天内多次触达同一用户", "Loops that end": "将结束的循环",
	"Range": "范围", "24 hours": "24 小时", "7 days": "7 天", "From": "起始", "Pushes": "推送数", "Lateness by hour": "每小时延迟", "Lateness by four hours": "每四小时延迟",
	"How many began within": "各延迟区间的推送数", "Pushes within this time": "此区间内的推送", "Share": "占比", "up to %s": "不超过 %s", "By time": "按时间",
	"Half, 95 and 99 of 100 pushes began within this time":                                                            "每 100 次推送中有 50、95、99 次在此时间内开始",
	"From due to the first call. Of more than 30,000 pushes, and of more than 10,000 of an app, a part is looked at.": "从应推送时间到首次调用。推送超过 30,000 次，或一个应用的超过 10,000 次时，只看其中一部分。",
	"Nothing was pushed in this time.":                                                                                "这段时间没有推送。",

	// hold
	"Pushes go out. A hold stops everything that has not begun, on every daemon, until it is released.": "推送正常进行。挂起会让所有守护进程上尚未开始的推送停下，直到解除。",
	"Hold everything": "全部挂起", "Only an admin may hold.": "只有管理员可以挂起。", "Only an admin may release.": "只有管理员可以解除。", "Held since": "挂起始于",
	"100,000 campaigns were looked through. Choose an app, or go on with older ones.": "已查看 100,000 个活动。请选择一个应用，或继续查看更早的活动。",
	"more than %s": "超过 %s",
	"A release pushes or misses %s overdue pushes at once; %s more follow when they are due.": "解除后，%s 个已到时间的推送会立即推送或记为错过；另有 %s 个到时推送。",
	"On release": "解除后", "Miss what is overdue instead of pushing it": "已到时间的记为错过，不再推送", "Say why: everybody who looks will read it.": "请写明原因：查看的人都会读到。",
}
