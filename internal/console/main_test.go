package console

import (
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.MainWaiting(m) }
