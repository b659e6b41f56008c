package main

import (
	"context"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A member of a group with franz-go, until SIGTERM.
func franzMember(m membership) error {
	asked := stopAsked()
	ctx := context.Background()
	balancer := kgo.GroupBalancer(kgo.RangeBalancer())
	switch m.protocol {
	case "roundrobin":
		balancer = kgo.RoundRobinBalancer()
	case "cooperative":
		balancer = kgo.CooperativeStickyBalancer()
	case "consumer":
		// The library keeps KIP-848 behind this until it is content with the brokers there are.
		ctx = context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true) //nolint:staticcheck
	}
	changed := func(event string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, client *kgo.Client, partitions map[string][]int32) {
			_, generation := client.GroupMetadata()
			tellChange(event, partitions[m.topic], generation)
		}
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(m.bootstrap, ",")...), kgo.ConsumerGroup(m.group), kgo.ConsumeTopics(m.topic), kgo.WithContext(ctx),
		kgo.SessionTimeout(m.sessionTimeout()), kgo.HeartbeatInterval(heartbeatInterval), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll(), kgo.Balancers(balancer),
		kgo.RetryBackoffFn(func(int) time.Duration { return 200 * time.Millisecond }),
		kgo.OnPartitionsAssigned(changed("assigned")), kgo.OnPartitionsRevoked(changed("revoked")),
		kgo.OnPartitionsLost(changed("lost")),
	}
	if m.instance != "" {
		options = append(options, kgo.InstanceID(m.instance))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	for {
		select {
		case <-asked:
			client.CloseAllowingRebalance()
			tell("closed", nil)
			return nil
		default:
			franzConsume(client)
		}
	}
}

func franzConsume(client *kgo.Client) {
	within, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	fetches := client.PollFetches(within)
	defer client.AllowRebalance()
	committed := map[int32]int64{}
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		offsets := []int64{}
		for _, r := range p.Records {
			offsets = append(offsets, r.Offset)
			committed[p.Partition] = r.Offset + 1
		}
		if len(offsets) > 0 {
			tell("records", map[string]any{"partition": p.Partition, "offsets": offsets})
		}
	})
	if len(committed) == 0 {
		return
	}
	within5s, cancel5s := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel5s()
	if err := client.CommitRecords(within5s, fetches.Records()...); err != nil {
		tell("refused", map[string]any{"why": err.Error()})
		return
	}
	tell("committed", map[string]any{"offsets": committed})
}
