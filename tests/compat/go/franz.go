package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// franz is franz-go: kgo for records, kadm for administration.
type franz struct {
	bootstrap string
	admin     *kadm.Client
}

var franzCodecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}
var franzAcks = map[string]kgo.Acks{"all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck()}

func newFranz(bootstrap string) (*franz, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return nil, err
	}
	return &franz{bootstrap, kadm.NewClient(client)}, nil
}

func within30s() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func (f *franz) cluster() (string, []int32, int32, error) {
	metadata, err := f.admin.BrokerMetadata(within30s())
	return metadata.Cluster, metadata.Brokers.NodeIDs(), metadata.Controller, err
}

func (f *franz) createTopic(topic string, partitions int32) error {
	_, err := f.admin.CreateTopic(within30s(), partitions, 1, nil, topic)
	return err
}

func (f *franz) topic(topic string) (map[int32]partition, error) {
	details, err := f.admin.ListTopics(within30s(), topic)
	if err != nil {
		return nil, err
	}
	described := map[int32]partition{}
	for _, p := range details[topic].Partitions {
		described[p.Partition] = partition{p.Leader, p.ISR}
	}
	return described, details[topic].Err
}

func (f *franz) addPartitions(topic string, total int) error {
	responses, err := f.admin.UpdatePartitions(within30s(), total, topic)
	return errors.Join(err, responses[topic].Err)
}

func (f *franz) deleteTopic(topic string) error {
	responses, err := f.admin.DeleteTopics(within30s(), topic)
	return errors.Join(err, responses[topic].Err)
}

func (f *franz) produce(topic string, records []record, how produceOptions) error {
	options := []kgo.Opt{
		kgo.SeedBrokers(f.bootstrap), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(franzCodecs[how.codec]), kgo.RequiredAcks(franzAcks[how.acks]),
		kgo.ProducerBatchMaxBytes(2_000_000), kgo.ProducerLinger(5 * time.Millisecond),
		// No RecordDeliveryTimeout: it counts from the record's own timestamp, which here is in the past.
	}
	if !how.idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	var sent []*kgo.Record
	for _, r := range records {
		one := &kgo.Record{Topic: topic, Partition: r.partition, Timestamp: time.UnixMilli(r.timestamp), Key: r.key, Value: r.value}
		for _, h := range r.headers {
			one.Headers = append(one.Headers, kgo.RecordHeader{Key: h.key, Value: h.value})
		}
		sent = append(sent, one)
	}
	return client.ProduceSync(within30s(), sent...).FirstErr()
}

func (f *franz) read(topic string, start map[int32]int64, count int, then func() error) ([]record, error) {
	offsets := map[int32]kgo.Offset{}
	for p, offset := range start {
		if then != nil && offset == latest { // kgo resolves the end at its first poll: resolve it before `then`
			end, err := f.offset(topic, p, latest)
			if err != nil {
				return nil, err
			}
			offset = end
		}
		switch offset {
		case earliest:
			offsets[p] = kgo.NewOffset().AtStart()
		default:
			offsets[p] = kgo.NewOffset().At(offset)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if then != nil {
		if err := then(); err != nil {
			return nil, err
		}
	}
	var records []record
	for ctx := within30s(); len(records) < count; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d records: %w", len(records), count, err)
		}
		for _, r := range fetches.Records() {
			records = append(records, franzRecord(r))
			if err := codecIs(topic, r); err != nil {
				return nil, err
			}
		}
	}
	return records, nil
}

func franzRecord(r *kgo.Record) record {
	seen := record{partition: r.Partition, offset: r.Offset, timestamp: r.Timestamp.UnixMilli(), key: r.Key, value: r.Value}
	for _, h := range r.Headers {
		seen.headers = append(seen.headers, header{h.Key, h.Value})
	}
	return seen
}

// codecIs checks that the batches kept their producer's codec: partitions 0-4 of the scenario's topic.
func codecIs(topic string, r *kgo.Record) error {
	if r.Partition < 1 || r.Partition > 4 {
		return nil
	}
	return equal(uint8(r.Partition), r.Attrs.CompressionType())
}

func (f *franz) commit(group, topic string, partition int32, offset int64, note string) error {
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: offset, LeaderEpoch: -1, Metadata: note})
	responses, err := f.admin.CommitOffsets(within30s(), group, offsets)
	return errors.Join(err, responses.Error())
}

func (f *franz) committed(group, topic string, partition int32) (int64, string, error) {
	responses, err := f.admin.FetchOffsets(within30s(), group)
	found, _ := responses.Lookup(topic, partition)
	return found.At, found.Metadata, errors.Join(err, found.Err)
}

type franzPoller struct{ client *kgo.Client }

func (f *franz) member(group, topic string, start, at int64) (member, error) {
	from := kgo.NewOffset().AtStart()
	switch {
	case at > 0:
		from = kgo.NewOffset().AfterMilli(at)
	case start == latest:
		from = kgo.NewOffset().AtEnd()
	}
	// What the group has committed is looked at first, and there is nothing.
	client, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(from))
	return franzPoller{client}, err
}

func (p franzPoller) poll() ([]record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	fetches := p.client.PollFetches(ctx)
	var records []record
	for _, r := range fetches.Records() {
		records = append(records, franzRecord(r))
	}
	if err := fetches.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	return records, nil
}

func (p franzPoller) close() { p.client.Close() }

func (f *franz) offset(topic string, partition int32, when int64) (int64, error) {
	var listed kadm.ListedOffsets
	var err error
	switch when {
	case earliest:
		listed, err = f.admin.ListStartOffsets(within30s(), topic)
	case latest:
		listed, err = f.admin.ListEndOffsets(within30s(), topic)
	default:
		return f.offsetForTime(topic, partition, when)
	}
	found, _ := listed.Lookup(topic, partition)
	return found.Offset, errors.Join(err, found.Err)
}

// kadm answers the end where no record is late enough; the protocol says -1, and so is it asked here.
func (f *franz) offsetForTime(topic string, partition int32, when int64) (int64, error) {
	request := kmsg.NewPtrListOffsetsRequest()
	one := kmsg.NewListOffsetsRequestTopic()
	one.Topic = topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, when
	one.Partitions = append(one.Partitions, p)
	request.Topics = append(request.Topics, one)
	client, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	response, err := request.RequestWith(within30s(), client)
	if err != nil {
		return 0, err
	}
	found := response.Topics[0].Partitions[0]
	return found.Offset, kerr.ErrorForCode(found.ErrorCode)
}

func (f *franz) deleteBefore(topic string, partition int32, offset int64) (int64, error) {
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: offset})
	responses, err := f.admin.DeleteRecords(within30s(), offsets)
	found, _ := responses.Lookup(topic, partition)
	return found.LowWatermark, errors.Join(err, found.Err)
}

func (f *franz) config(topic, key string) (string, bool, error) {
	described, err := f.admin.DescribeTopicConfigs(within30s(), topic)
	if err != nil {
		return "", false, err
	}
	for _, config := range described[0].Configs {
		if config.Key == key {
			return config.MaybeValue(), config.Source == kmsg.ConfigSourceDefaultConfig, nil
		}
	}
	return "", false, errors.Join(described[0].Err, fmt.Errorf("no %s", key))
}

func (f *franz) setConfig(topic, key string, value *string) error {
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: value}
	if value == nil {
		change.Op = kadm.DeleteConfig
	}
	responses, err := f.admin.AlterTopicConfigs(within30s(), []kadm.AlterConfig{change}, topic)
	if err != nil {
		return err
	}
	return responses[0].Err
}

func (f *franz) code(err error) int16 {
	var known *kerr.Error
	if errors.As(err, &known) {
		return known.Code
	}
	return -1
}
