package redisstate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestOptions_show_no_secret_however_they_are_printed(t *testing.T) {
	t.Parallel()
	const canary = "C4n4ry"
	o := Options{
		URL: "redis+sentinel://app:" + canary + "@one,two/main", Password: canary, SentinelPassword: canary, Username: canary, Namespace: "ns",
	}
	for _, shown := range []any{o, &o, struct{ Redis Options }{o}, []Options{o}} {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		logger.Info("x", "options", shown)
		text, err := json.Marshal(shown)
		if err != nil {
			t.Fatal(err)
		}
		all := fmt.Sprintf("%v %+v %#v %s %q %d", shown, shown, shown, shown, shown, shown) + log.String() + string(text)
		if strings.Contains(all, canary) {
			t.Errorf("%T shows the secret: %s", shown, all)
		}
		if !strings.Contains(string(text), "one:26379,two:26379/main") {
			t.Errorf("%T does not say where it leads: %s", shown, text)
		}
	}
	if text := fmt.Sprint(Options{URL: "redis://" + canary + "@:bad:"}); strings.Contains(text, canary) {
		t.Errorf("a broken URL is shown: %s", text)
	}
}
