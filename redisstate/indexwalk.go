package redisstate

import (
	"context"
	"encoding/binary"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// indexPage is a part of what an index lists, or all of it.
type indexPage struct {
	sure   []string // lives, as far as the index says
	unsure []string // may be gone
}

func (p indexPage) all() []string { return append(p.unsure, p.sure...) }

// walkIndex passes on the members of an index, each once, in pages: a small
// index as one, in one trip. What may be gone is asked first, so that nothing is
// missed whose life becomes longer meanwhile.
func (s *Store) walkIndex(ctx context.Context, name string, each func(indexPage) (more bool, err error)) error {
	trust := s.now().Add(clockSkew)
	var sure, unsure *redis.StringSliceCmd
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		unsure = p.ZRangeByScore(ctx, name, &redis.ZRangeBy{Min: "-inf", Max: "(" + score(trust), Count: scanCount})
		sure = p.ZRangeByScore(ctx, name, &redis.ZRangeBy{Min: score(trust), Max: "+inf", Count: scanCount})
		return nil
	})
	if err = rediserr.Reason(err, cmds); err != nil {
		return err
	}
	if len(sure.Val()) == scanCount || len(unsure.Val()) == scanCount {
		return s.walkLargeIndex(ctx, name, each)
	}
	page := indexPage{sure: sure.Val(), unsure: unsure.Val()}
	if len(page.unsure) > 0 {
		seen := make(map[string]bool, len(page.unsure))
		page.unsure = unseen(page.unsure, seen)
		page.sure = unseen(page.sure, seen)
	}
	_, err = each(page)
	return err
}

// walkLargeIndex does so in steps that hold up the server for well under a
// millisecond, from what ends first to what ends last: a life that becomes longer
// meanwhile is only met later. Were it ZSCAN, embedded Redis, which goes by
// position, would leave out others then.
func (s *Store) walkLargeIndex(ctx context.Context, name string, each func(indexPage) (more bool, err error)) error {
	seen := make(map[string]bool, scanCount)
	by := &redis.ZRangeBy{Min: "-inf", Max: "+inf", Count: scanCount}
	for {
		listed, err := s.client.ZRangeByScoreWithScores(ctx, name, by).Result()
		if err != nil {
			return err
		}
		var page indexPage
		trust := float64(s.now().Add(clockSkew).UnixMicro()) // a caller may take its time between pages
		for _, z := range listed {
			member, _ := z.Member.(string)
			switch {
			case seen[member]:
				continue
			case z.Score >= trust:
				page.sure = append(page.sure, member)
			default:
				page.unsure = append(page.unsure, member)
			}
			seen[member] = true
		}
		if more, err := each(page); !more || err != nil || len(listed) < scanCount {
			return err
		}
		next := strconv.FormatFloat(listed[len(listed)-1].Score, 'f', -1, 64)
		if next == by.Min { // a page of one score
			by.Offset += scanCount
		} else {
			by.Min, by.Offset = next, 0
		}
	}
}

// unseen leaves out what was seen, and notes the rest.
func unseen(members []string, seen map[string]bool) []string {
	fresh := members[:0]
	for _, m := range members {
		if !seen[m] {
			seen[m] = true
			fresh = append(fresh, m)
		}
	}
	return fresh
}

// membership is what became of the ids that a workflow's index lists.
type membership struct {
	in      []string // their current config is of the workflow
	unknown []string // it cannot be read here: Get will tell
	out     []string // it is gone, or another workflow's
}

// listed are the ids that Scan lists.
func (m membership) listed() []string { return append(m.in, m.unknown...) }

// members looks what became of ids. It reads the head of each value only, as far as
// it goes if the value is of the workflow.
func (s *Store) members(ctx context.Context, workflow string, ids []string) (found membership, err error) {
	if len(ids) == 0 {
		return membership{}, nil
	}
	// Boxed once: a pipeline of many small commands is mostly allocations.
	var start, end any = 0, headerBytes + 2*binary.MaxVarintLen64 + len(workflow)
	replies := make([]*redis.StringCmd, len(ids))
	queue := make([]redis.Cmder, len(ids))
	args := make([]any, 0, 4*len(ids))
	for i, id := range ids {
		args = append(args, "getrange", s.space.Config(id), start, end)
		replies[i] = redis.NewStringCmd(ctx, args[4*i:4*i+4:4*i+4]...)
		queue[i] = replies[i]
	}
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error { return p.BatchProcess(ctx, queue...) })
	if err = unlessReply(err, cmds); err != nil {
		return membership{}, err
	}
	found.in = make([]string, 0, len(ids))
	for i, id := range ids {
		raw, err := replies[i].Bytes()
		if err != nil && !rediserr.IsWrongType(err) {
			return membership{}, err
		}
		v, unreadable := decodeHeader(raw)
		switch {
		case len(raw) == 0 || (unreadable == nil && v.workflow != workflow) || longerWorkflow(raw, len(workflow)):
			found.out = append(found.out, id)
		case unreadable != nil:
			found.unknown = append(found.unknown, id)
		default:
			found.in = append(found.in, id)
		}
	}
	return found, nil
}
