package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/compozy/temporal-redis/internal/redistest"
)

// Machine is where and with what a run was made. It is kept beside the samples.
type Machine struct {
	Time  time.Time `json:"time"`
	OS    string    `json:"os"`
	CPU   string    `json:"cpu"`
	Procs int       `json:"gomaxprocs"`
	Load  string    `json:"load"` // averages over 1, 5 and 15 minutes
	Go    string    `json:"go"`
	Redis string    `json:"redis"`
}

// thisMachine looks around. What cannot be found out stays empty.
func thisMachine(ctx context.Context) Machine {
	return Machine{
		Time:  time.Now().UTC().Truncate(time.Second),
		OS:    runtime.GOOS + "/" + runtime.GOARCH,
		CPU:   cpu(),
		Procs: runtime.GOMAXPROCS(0),
		Load:  load(),
		Go:    runtime.Version(),
		Redis: redisVersion(ctx),
	}
}

func (m Machine) String() string {
	return fmt.Sprintf("%s, %s, GOMAXPROCS %d, load %s, %s, redis-server %s", m.OS, m.CPU, m.Procs, m.Load, m.Go, m.Redis)
}

func cpu() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	if fields := bytes.Fields(text); len(fields) >= 3 {
		return string(bytes.Join(fields[:3], []byte(" ")))
	}
	return "unknown"
}

func redisVersion(ctx context.Context) string {
	path, err := redistest.Locate(ctx)
	if err != nil {
		return "not found"
	}
	output, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "unknown"
	}
	for field := range strings.FieldsSeq(string(output)) {
		if version, ok := strings.CutPrefix(field, "v="); ok {
			return version
		}
	}
	return "unknown"
}
