package alipay

// totalSend is a message to everyone.
var totalSend = all(kindObject, object(
	required("msg_type", oneOf(msgTypeText, msgTypeArticles)),
	optional("text", textRule),
	optional("articles", articlesRule),
), contentFits)

// groupSend is a message to one group of users. What an image holds is not
// described, so it is sent as it is.
var groupSend = all(kindObject, object(
	required("group_id", text),
	required("msg_type", oneOf(msgTypeText, msgTypeArticles, msgTypeImage)),
	optional("text", textRule),
	optional("articles", articlesRule),
	optional("image", anyObject),
), contentFits)

func anyObject(j *judge, field string, n node) { j.is(field, n, kindObject) }
