package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// saramaClient is sarama: sync producer, partition consumer, cluster admin.
type saramaClient struct {
	bootstrap []string
	client    sarama.Client
	admin     sarama.ClusterAdmin
}

var saramaCodecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}
var saramaAcks = map[string]sarama.RequiredAcks{"all": sarama.WaitForAll, "1": sarama.WaitForLocal, "0": sarama.NoResponse}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Consumer.Return.Errors = true
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.MaxMessageBytes = 2_000_000
	return config
}

func newSarama(bootstrap string) (*saramaClient, error) {
	client, err := sarama.NewClient([]string{bootstrap}, saramaConfig())
	if err != nil {
		return nil, err
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	return &saramaClient{[]string{bootstrap}, client, admin}, err
}

func (s *saramaClient) cluster() (string, []int32, int32, error) {
	brokers, controller, err := s.admin.DescribeCluster()
	if err != nil {
		return "", nil, -1, err
	}
	var ids []int32
	for _, b := range brokers {
		ids = append(ids, b.ID())
	}
	broker, err := s.client.Controller()
	if err != nil {
		return "", nil, -1, err
	}
	metadata, err := broker.GetMetadata(sarama.NewMetadataRequest(sarama.MaxVersion, []string{}))
	if err != nil || metadata.ClusterID == nil {
		return "", nil, -1, errors.Join(err, errors.New("no cluster id"))
	}
	return *metadata.ClusterID, ids, controller, nil
}

func (s *saramaClient) createTopic(topic string, partitions int32) error {
	return s.admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false)
}

func (s *saramaClient) topic(topic string) (map[int32]partition, error) {
	metadata, err := s.admin.DescribeTopics([]string{topic})
	if err != nil {
		return nil, err
	}
	if metadata[0].Err != sarama.ErrNoError {
		return nil, metadata[0].Err
	}
	described := map[int32]partition{}
	for _, p := range metadata[0].Partitions {
		described[p.ID] = partition{p.Leader, p.Isr}
	}
	return described, nil
}

func (s *saramaClient) addPartitions(topic string, total int) error {
	return s.admin.CreatePartitions(topic, int32(total), nil, false)
}

func (s *saramaClient) deleteTopic(topic string) error {
	return s.admin.DeleteTopic(topic)
}

func (s *saramaClient) produce(topic string, records []record, how produceOptions) error {
	config := saramaConfig()
	config.Producer.Compression = saramaCodecs[how.codec]
	config.Producer.RequiredAcks = saramaAcks[how.acks]
	if how.idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	producer, err := sarama.NewSyncProducer(s.bootstrap, config)
	if err != nil {
		return err
	}
	var messages []*sarama.ProducerMessage
	for _, r := range records {
		message := &sarama.ProducerMessage{Topic: topic, Partition: r.partition, Timestamp: time.UnixMilli(r.timestamp)}
		if r.key != nil {
			message.Key = sarama.ByteEncoder(r.key)
		}
		if r.value != nil {
			message.Value = sarama.ByteEncoder(r.value)
		}
		for _, h := range r.headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(h.key), Value: h.value})
		}
		messages = append(messages, message)
	}
	return errors.Join(producer.SendMessages(messages), producer.Close())
}

func (s *saramaClient) read(topic string, start map[int32]int64, count int, then func() error) ([]record, error) {
	consumer, err := sarama.NewConsumer(s.bootstrap, saramaConfig())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	received := make(chan any, count)
	for p, offset := range start { // earliest and latest are sarama's own numbers; resolved here
		partition, err := consumer.ConsumePartition(topic, p, offset)
		if err != nil {
			return nil, err
		}
		defer partition.AsyncClose()
		go func() {
			for message := range partition.Messages() {
				received <- message
			}
		}()
		go func() {
			for err := range partition.Errors() {
				received <- err
			}
		}()
	}
	if then != nil {
		if err := then(); err != nil {
			return nil, err
		}
	}
	var records []record
	for deadline := time.After(30 * time.Second); len(records) < count; {
		select {
		case one := <-received:
			switch one := one.(type) {
			case *sarama.ConsumerMessage:
				records = append(records, saramaRecord(one))
			case *sarama.ConsumerError:
				return nil, one
			}
		case <-deadline:
			return nil, fmt.Errorf("%d of %d records in 30 s", len(records), count)
		}
	}
	return records, nil
}

func saramaRecord(m *sarama.ConsumerMessage) record {
	seen := record{partition: m.Partition, offset: m.Offset, timestamp: m.Timestamp.UnixMilli(), key: m.Key, value: m.Value}
	for _, h := range m.Headers {
		seen.headers = append(seen.headers, header{string(h.Key), h.Value})
	}
	return seen
}

func (s *saramaClient) commit(group, topic string, partition int32, offset int64, note string) error {
	manager, err := sarama.NewOffsetManagerFromClient(group, s.client)
	if err != nil {
		return err
	}
	of, err := manager.ManagePartition(topic, partition)
	if err != nil {
		return err
	}
	of.MarkOffset(offset, note)
	manager.Commit()
	return errors.Join(of.Close(), manager.Close())
}

func (s *saramaClient) committed(group, topic string, partition int32) (int64, string, error) {
	listed, err := s.admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
	if err != nil {
		return 0, "", err
	}
	block := listed.GetBlock(topic, partition)
	if block == nil {
		return 0, "", errors.New("nothing committed")
	}
	return block.Offset, block.Metadata, nil
}

// saramaPoller collects what the claims of a group bring.
type saramaPoller struct {
	client   *saramaClient
	group    sarama.ConsumerGroup
	received chan record
	failed   chan error
	at       int64
	stop     context.CancelFunc
}

func (s *saramaClient) member(group, topic string, start, at int64) (member, error) {
	config := saramaConfig()
	config.Consumer.Offsets.Initial = start // sarama's own numbers
	config.Consumer.Offsets.AutoCommit.Enable = false
	joined, err := sarama.NewConsumerGroup(s.bootstrap, group, config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &saramaPoller{s, joined, make(chan record, 1000), make(chan error, 1), at, stop}
	go func() {
		for ctx.Err() == nil {
			if err := joined.Consume(ctx, []string{topic}, m); err != nil && ctx.Err() == nil {
				m.failed <- err
				return
			}
		}
	}()
	return m, nil
}

// Setup moves the claims before they are read.
func (m *saramaPoller) Setup(session sarama.ConsumerGroupSession) error {
	if m.at == 0 {
		return nil
	}
	for topic, partitions := range session.Claims() {
		for _, partition := range partitions {
			offset, err := m.client.offset(topic, partition, m.at)
			if err != nil {
				return err
			}
			session.MarkOffset(topic, partition, offset, "")
		}
	}
	return nil
}

func (m *saramaPoller) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *saramaPoller) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			m.received <- saramaRecord(message)
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *saramaPoller) poll() ([]record, error) {
	var records []record
	for deadline := time.After(500 * time.Millisecond); ; {
		select {
		case one := <-m.received:
			records = append(records, one)
		case err := <-m.failed:
			return nil, err
		case <-deadline:
			return records, nil
		}
	}
}

func (m *saramaPoller) close() {
	m.stop()
	m.group.Close()
}

func (s *saramaClient) offset(topic string, partition int32, when int64) (int64, error) {
	return s.client.GetOffset(topic, partition, when)
}

// sarama keeps the low watermark to itself: ask for the earliest offset.
func (s *saramaClient) deleteBefore(topic string, partition int32, offset int64) (int64, error) {
	if err := s.admin.DeleteRecords(topic, map[int32]int64{partition: offset}); err != nil {
		return 0, err
	}
	return s.offset(topic, partition, earliest)
}

func (s *saramaClient) config(topic, key string) (string, bool, error) {
	entries, err := s.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{key}})
	if err != nil || len(entries) != 1 {
		return "", false, errors.Join(err, equal(1, len(entries)))
	}
	return entries[0].Value, entries[0].Source == sarama.SourceDefault, nil
}

func (s *saramaClient) setConfig(topic, key string, value *string) error {
	change := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: value}
	if value == nil {
		change.Operation = sarama.IncrementalAlterConfigsOperationDelete
	}
	return s.admin.IncrementalAlterConfig(sarama.TopicResource, topic,
		map[string]sarama.IncrementalAlterConfigsEntry{key: change}, false)
}

func (s *saramaClient) code(err error) int16 {
	var many sarama.ProducerErrors
	if errors.As(err, &many) {
		err = many[0].Err
	}
	var known sarama.KError
	if errors.As(err, &known) {
		return int16(known)
	}
	return -1
}
