package sandbox

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const maxArticles = 6

// The bodies of Alipay's sends, as far as the sandbox judges them.
type (
	labelBody struct {
		Filter struct {
			Template string                    `json:"template"`
			Context  map[string]labelCondition `json:"context"`
		} `json:"filter"`
		Material material `json:"material"`
	}
	labelCondition struct {
		ColumnName string   `json:"column_name"`
		Op         string   `json:"op"`
		Values     []string `json:"values"`
	}
	// material is also the body of total and group sends.
	material struct {
		MsgType string `json:"msg_type"`
		Text    *struct {
			Title   string `json:"title"`
			Content string `json:"content"`
		} `json:"text"`
		Articles []struct {
			Title      string `json:"title"`
			Desc       string `json:"desc"`
			ImageURL   string `json:"image_url"`
			URL        string `json:"url"`
			ActionName string `json:"action_name"`
		} `json:"articles"`
		GroupID string          `json:"group_id"`
		Image   json.RawMessage `json:"image"`
	}
	singleBody struct {
		ToUserID string `json:"to_user_id"`
		ToOpenID string `json:"to_open_id"`
		Template struct {
			TemplateID string                     `json:"template_id"`
			Context    map[string]json.RawMessage `json:"context"`
		} `json:"template"`
	}
	recallBody struct {
		MessageID string `json:"message_id"`
	}
)

// keywords are the places of a single send's template.
var keywords = []string{"first", "keyword1", "keyword2", "remark", "url", "action_name", "head_color"}

func (a *alipay) judgeMessage(c *call, body []byte) *refusal {
	switch c.api {
	case apiLabelSend:
		return judgeLabel(c, body)
	case apiTotalSend, apiGroupSend:
		return judgeBroadcast(c, body)
	case apiSingleSend:
		return judgeSingle(c, body)
	case apiRecall:
		var b recallBody
		if r := c.decode(body, &b); r != nil {
			return r
		}
		c.messageID = b.MessageID
		if b.MessageID == "" {
			return illegal("message_id is missing")
		}
	default:
	}
	return nil
}

// decode reads a body and notes names that the documents do not have.
func (c *call) decode(body []byte, into any) *refusal {
	if err := json.Unmarshal(body, into); err != nil {
		return illegal("the body is not the documented JSON: " + err.Error())
	}
	strict := json.NewDecoder(bytes.NewReader(body))
	strict.DisallowUnknownFields()
	if err := strict.Decode(into); err != nil {
		c.notes = append(c.notes, err.Error())
	}
	return nil
}

func illegal(message string) *refusal {
	return &refusal{http.StatusBadRequest, "ILLEGAL_BIZ_PARAMS", message}
}

func labelError(code, message string) *refusal {
	return &refusal{http.StatusBadRequest, "LABEL_GROUP_" + code, message}
}

func judgeLabel(c *call, body []byte) *refusal {
	var b labelBody
	if r := c.decode(body, &b); r != nil {
		return r
	}
	switch f := b.Filter; {
	case f.Template == "" && len(f.Context) == 0:
		return labelError("FILTER_EMPTY", "filter is missing")
	case f.Template == "":
		return labelError("TPL_EMPTY", "filter.template is missing")
	case len(f.Context) == 0:
		return labelError("NO_CONDITION", "filter.context is missing")
	case len(f.Context) > 2 || strings.Count(f.Template, "${") > 2:
		return labelError("LABEL_OVER_LIMIT", "at most two variables")
	}
	for name, condition := range b.Filter.Context {
		if !strings.Contains(b.Filter.Template, "${"+name+"}") {
			return illegal("filter.template does not use " + name)
		}
		if r := condition.judge(name); r != nil {
			return r
		}
	}
	return b.Material.judge("text", "image-text")
}

func (l labelCondition) judge(name string) *refusal {
	switch {
	case l.ColumnName == "":
		return labelError("KEY_EMPTY", name+": column_name is missing")
	case l.ColumnName != "label_id_list":
		return illegal(name + ": column_name is always label_id_list")
	case l.Op == "":
		return labelError("ITEM_EMPTY", name+": op is missing")
	case !slices.Contains([]string{"=", "!=", "in"}, l.Op):
		return illegal(name + ": op must be =, != or in")
	case len(l.Values) == 0:
		return labelError("VALUES_EMPTY", name+": values is missing")
	}
	for _, v := range l.Values {
		if _, err := strconv.ParseUint(v, 10, 64); err != nil {
			return labelError("VALUE_NOT_NUMBER", name+": "+strconv.Quote(v)+" is not the number of a label")
		}
	}
	return nil
}

func judgeBroadcast(c *call, body []byte) *refusal {
	var b material
	if r := c.decode(body, &b); r != nil {
		return r
	}
	if c.api == apiTotalSend {
		return b.judge("text", "image-text")
	}
	if b.GroupID == "" {
		return illegal("group_id is missing")
	}
	return b.judge("text", "image-text", "image")
}

func (m *material) judge(types ...string) *refusal {
	if !slices.Contains(types, m.MsgType) {
		return &refusal{http.StatusBadRequest, "MSG_TYPE_ILLEGAL", "msg_type must be one of " + strings.Join(types, ", ")}
	}
	switch m.MsgType {
	case "text":
		if m.Text == nil || m.Text.Title == "" || m.Text.Content == "" {
			return illegal("text needs a title and content")
		}
	case "image-text":
		return m.judgeArticles()
	case "image":
		if len(m.Image) == 0 {
			return illegal("image is missing")
		}
	}
	return nil
}

func (m *material) judgeArticles() *refusal {
	if len(m.Articles) == 0 || len(m.Articles) > maxArticles {
		return illegal("articles: 1 to 6 are needed")
	}
	if len(m.Articles) > 1 && m.Articles[0].ImageURL == "" {
		return illegal("articles: the first of several needs image_url")
	}
	for i, article := range m.Articles {
		if article.Desc == "" || article.URL == "" {
			return illegal("articles[" + strconv.Itoa(i) + "]: desc and url are needed")
		}
	}
	return nil
}

func judgeSingle(c *call, body []byte) *refusal {
	var b singleBody
	if r := c.decode(body, &b); r != nil {
		return r
	}
	if (b.ToUserID == "") == (b.ToOpenID == "") {
		return illegal("one of to_user_id and to_open_id is needed")
	}
	c.targets = append(c.targets, []byte(b.ToUserID+b.ToOpenID))
	c.targetCount = 1
	if b.Template.TemplateID == "" || b.Template.Context == nil {
		return illegal("template needs template_id and context")
	}
	for name := range b.Template.Context {
		if !slices.Contains(keywords, name) {
			c.notes = append(c.notes, "unknown place template.context."+name)
		}
	}
	return nil
}
