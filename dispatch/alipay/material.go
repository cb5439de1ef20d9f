package alipay

import "fmt"

// The parts of a message that label, total and group sends share. The API's
// description says what is required: a text has a title and content, an article
// a description and a link, and the first of several articles an image. It
// publishes no lengths, so none are judged.
const (
	msgTypeText     = "text"
	msgTypeArticles = "image-text"
	msgTypeImage    = "image"
	maxArticles     = 6
)

var (
	textRule = object(
		required("title", text),
		required("content", text),
	)
	articleRule = object(
		optional("title", anyText),
		required("desc", text),
		optional("image_url", anyText),
		required("url", text),
		optional("action_name", anyText),
	)
	articlesRule = all(kindArray, listOf(maxArticles, articleRule), firstHasImage)
)

func firstHasImage(j *judge, field string, n node) {
	if len(n.items) < 2 || n.items[0].kind != kindObject {
		return
	}
	if image, ok := n.items[0].get("image_url"); !ok || image.kind == kindString && image.text == "" {
		j.report(field+"[0].image_url", "is required for the first of several articles")
	}
}

// contents says which member each message type puts its message in.
var contents = []struct{ msgType, field string }{
	{msgTypeText, "text"},
	{msgTypeArticles, "articles"},
	{msgTypeImage, "image"},
}

// contentFits holds msg_type and the message's members against each other.
func contentFits(j *judge, field string, n node) {
	msgType, ok := n.get("msg_type")
	if !ok || msgType.kind != kindString {
		return
	}
	known := false
	for _, c := range contents {
		known = known || c.msgType == msgType.text
	}
	if !known {
		return // reported already; what would fit is anyone's guess
	}
	for _, c := range contents {
		_, given := n.get(c.field)
		switch {
		case c.msgType == msgType.text && !given:
			j.report(join(field, c.field), "is required with msg_type %q", msgType.text)
		case c.msgType != msgType.text && given:
			j.report(join(field, c.field), "%s", misplaced(c.msgType, msgType.text))
		}
	}
}

func misplaced(wants, got string) string {
	return fmt.Sprintf("belongs to msg_type %q, but msg_type is %q", wants, got)
}
