package main

import (
	"fmt"
	"strconv"
)

// appName writes an app as one word.
func appName(appID, workspaceID string) string {
	if workspaceID == "" {
		return appID
	}
	return appID + "/" + workspaceID
}

// campaignName writes a campaign's number and, when it is still there, its name.
func campaignName(id int64, name string) string {
	switch {
	case id == 0:
		return ""
	case name == "":
		return strconv.FormatInt(id, 10)
	}
	return fmt.Sprintf("%d %s", id, clip(name, 32))
}

// number writes an id; nothing for none.
func number(id int64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatInt(id, 10)
}
