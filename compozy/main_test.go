package compozy_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/leak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, leak.DeadDial()) }
