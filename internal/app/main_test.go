package app_test

import (
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.MainWaiting(m) }
