package main

import (
	"context"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// saramaHandler is a member of a group with sarama.
type saramaHandler struct{ topic string }

func (h saramaHandler) Setup(session sarama.ConsumerGroupSession) error {
	tellChange("assigned", session.Claims()[h.topic], session.GenerationID())
	return nil
}

func (h saramaHandler) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	tellChange("revoked", session.Claims()[h.topic], session.GenerationID())
	return nil
}

// Commit tells nobody whether it succeeded, so this member tells nothing of it.
func (h saramaHandler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			tell("records", map[string]any{"partition": message.Partition, "offsets": []int64{message.Offset}})
			session.MarkMessage(message, "")
			if len(claim.Messages()) == 0 {
				session.Commit()
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func saramaMember(m membership) error {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = m.sessionTimeout()
	config.Consumer.Group.Heartbeat.Interval = heartbeatInterval
	config.Consumer.Group.InstanceId = m.instance
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	if m.protocol == "roundrobin" {
		config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRoundRobin()}
	}
	group, err := sarama.NewConsumerGroup(strings.Split(m.bootstrap, ","), m.group, config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	asked := stopAsked()
	go func() {
		<-asked
		cancel()
	}()
	for ctx.Err() == nil {
		if err := group.Consume(ctx, []string{m.topic}, saramaHandler{m.topic}); err != nil {
			tell("refused", map[string]any{"why": err.Error()})
			time.Sleep(200 * time.Millisecond)
		}
	}
	err = group.Close()
	tell("closed", nil)
	return err
}
