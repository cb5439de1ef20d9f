package api

import (
	"slices"
	"strings"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
)

// IDOf is what clients hold of a campaign.
func IDOf(campaign int64) string { return id{campaign: campaign}.String() }

// Digest is what is stored of a call with a client token.
func Digest(action string, params map[string]string) []byte {
	c := &call{action: action}
	for name, value := range params {
		c.params = append(c.params, aliyun.Param{Name: name, Value: value})
	}
	slices.SortFunc(c.params, func(a, b aliyun.Param) int { return strings.Compare(a.Name, b.Name) })
	return digest(c)
}
