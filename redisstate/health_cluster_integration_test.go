//go:build integration

package redisstate_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
)

func TestHealth_of_a_Cluster_is_degraded_without_a_master_and_down_without_a_slot(t *testing.T) {
	t.Parallel()
	deployment := redistest.StartCluster(t)
	conn, log := watch(t, deployment.URL())
	const slot = 1
	killed, promoted, err := deployment.KillMaster(t.Context(), slot)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("not down %v after the promotion", awaitAvailable(t, conn, recovery))
	t.Logf("up after another %v", await(t, conn, redisstate.HealthUp, "", discovery))
	if text := log.String(); strings.Contains(text, "Redis is away") && !strings.Contains(text, "clusterdown") {
		t.Errorf("the log is %s", text)
	}
	key := keyOn(t, deployment, promoted)
	promoted.Kill() // nobody has its slots now
	// Who asks has the probe look, before the other masters give it up: that may be
	// before the answer.
	answer := make(chan error, 1)
	go func() { answer <- conn.Client().Get(t.Context(), key).Err() }()
	await(t, conn, redisstate.HealthDegraded, "connection", discovery)
	if err := <-answer; err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("a master that is dead said %v", err)
	}
	found := await(t, conn, redisstate.HealthDown, "clusterdown", discovery)
	promoted.MustRestart(t)
	t.Logf("down after %v, up after %v", found, await(t, conn, redisstate.HealthUp, "", discovery))
	killed.MustRestart(t)
	if err := deployment.AwaitWhole(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, node := range deployment.Nodes() {
		node.Kill()
	}
	await(t, conn, redisstate.HealthDown, "connection", discovery)
	var starting sync.WaitGroup
	for _, node := range deployment.Nodes() {
		starting.Go(func() { node.MustRestart(t) })
	}
	starting.Wait()
	if err := deployment.AwaitWhole(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("not down %v after all are whole", awaitAvailable(t, conn, recovery))
	t.Logf("up after another %v", await(t, conn, redisstate.HealthUp, "", discovery))
}

// keyOn is a key that is on the given master.
func keyOn(t *testing.T, deployment *redistest.Cluster, master *redistest.Server) string {
	t.Helper()
	for n := range 1000 {
		key := fmt.Sprintf("temporal-redis:k%d", n)
		slot, err := deployment.Slot(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		owner, _, err := deployment.Owner(t.Context(), slot)
		if err != nil {
			t.Fatal(err)
		}
		if owner == master {
			return key
		}
	}
	t.Fatal("no key is on that master")
	return ""
}

func TestHealth_of_a_Cluster_bears_a_master_that_is_silent(t *testing.T) {
	t.Parallel()
	deployment := redistest.StartCluster(t)
	conn, log := watch(t, deployment.URL())
	master, _, err := deployment.Owner(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := master.Pause(); err != nil {
		t.Fatal(err)
	}
	await(t, conn, redisstate.HealthDegraded, "", discovery)
	t.Logf("up after %v, by its replica", await(t, conn, redisstate.HealthUp, "", 3*discovery))
	if err := master.Resume(); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Contains(text, "Redis is away") && !strings.Contains(text, "clusterdown") {
		t.Errorf("the log is %s", text)
	}
}
