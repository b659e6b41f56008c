package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Numbered records with franz-go, written or read until SIGTERM. Prints what it was told, see ../README.md.

// Records of a partition that may be on their way, and those sent to it at a time.
const (
	room  = 2000
	chunk = 8
)

func numberedValue(producer string, partition int32, number int64) []byte {
	return []byte(fmt.Sprintf("%s/%d/%d/%s", producer, partition, number, strings.Repeat(".", int(number%100))))
}

func say(words ...any) {
	telling.Lock()
	defer telling.Unlock()
	fmt.Println(words...)
}

type ackedRun struct{ first, count, offset, invoked, done int64 }

// Acknowledged neighbours, by partition.
type ackedRuns struct {
	sync.Mutex
	open map[int32]*ackedRun
}

func (r *ackedRuns) add(partition int32, number, offset, invoked int64) {
	r.Lock()
	defer r.Unlock()
	run, done := r.open[partition], time.Now().UnixMicro()
	if run != nil && run.first+run.count == number && run.offset+run.count == offset {
		run.count, run.done = run.count+1, done
		return
	}
	r.tell(partition)
	r.open[partition] = &ackedRun{number, 1, offset, invoked, done}
}

func (r *ackedRuns) tell(partition int32) {
	if run := r.open[partition]; run != nil {
		say("ack", partition, run.first, run.count, run.offset, run.invoked, run.done)
		delete(r.open, partition)
	}
}

func (r *ackedRuns) tellAll() {
	r.Lock()
	defer r.Unlock()
	for partition := range r.open {
		r.tell(partition)
	}
}

// BOOTSTRAP TOPIC PARTITIONS PRODUCER RATE
func franzWrite(args []string) error {
	bootstrap, topic, name := args[0], args[1], args[3]
	partitions, _ := strconv.ParseInt(args[2], 10, 32)
	rate, _ := strconv.ParseFloat(args[4], 64)
	asked := stopAsked()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.MaxBufferedRecords(room*int(partitions)),
		kgo.ProduceRequestTimeout(10*time.Second), kgo.RequestTimeoutOverhead(10*time.Second),
		kgo.RetryTimeout(30*time.Minute), kgo.UnknownTopicRetries(-1),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
	)
	if err != nil {
		return err
	}
	runs := &ackedRuns{open: map[int32]*ackedRun{}}
	next, open := make([]int64, partitions), make([]atomic.Int64, partitions)
	started, sent, turn := time.Now(), int64(0), int64(0)
	for stopped := false; !stopped; {
		select {
		case <-asked:
			stopped = true
		case <-time.After(5 * time.Millisecond):
		}
		due := int64(time.Since(started).Seconds() * rate)
		// A partition without room is passed over: the others go on.
		for full := int64(0); sent < due && full < partitions; turn++ {
			partition := int32(turn % partitions)
			if open[partition].Load() > room-chunk {
				full++
				continue
			}
			full = 0
			sent += chunk
			open[partition].Add(chunk)
			for range chunk {
				number, invoked := next[partition], time.Now().UnixMicro()
				next[partition]++
				record := &kgo.Record{Topic: topic, Partition: partition, Value: numberedValue(name, partition, number)}
				client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
					open[partition].Add(-1)
					if err != nil {
						say("fail", partition, number, time.Now().UnixMicro(), err)
						return
					}
					runs.add(partition, number, r.Offset, invoked)
				})
			}
		}
		runs.tellAll()
		// After an outage it goes on at its rate.
		if behind := float64(due - sent); behind > rate {
			started = started.Add(time.Duration(behind / rate * float64(time.Second)))
		}
	}
	if err := client.Flush(context.Background()); err != nil {
		return err
	}
	runs.tellAll()
	for partition, total := range next {
		say("sent", partition, total)
	}
	client.Close()
	say("closed")
	return nil
}

// BOOTSTRAP TOPIC PARTITIONS
func franzRead(args []string) error {
	topic := args[1]
	partitions, _ := strconv.ParseInt(args[2], 10, 32)
	asked := stopAsked()
	from := map[int32]kgo.Offset{}
	for partition := range int32(partitions) {
		from[partition] = kgo.NewOffset().At(0)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(args[0], ",")...), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
	)
	if err != nil {
		return err
	}
	for {
		select {
		case <-asked:
			client.Close()
			say("closed")
			return nil
		default:
		}
		within, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		fetches := client.PollFetches(within)
		cancel()
		for _, one := range fetches.Errors() {
			if one.Err != context.DeadlineExceeded {
				say("wrong partition", one.Partition, one.Err)
			}
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) { tellRead(p.Partition, p.Records) })
	}
}

func tellRead(partition int32, records []*kgo.Record) {
	var offset, count, first int64
	producer := ""
	tell := func() {
		if count > 0 {
			say("read", partition, offset, count, producer, first)
		}
	}
	for _, record := range records {
		parts := strings.SplitN(string(record.Value), "/", 4)
		number := int64(-1)
		if len(parts) == 4 {
			number, _ = strconv.ParseInt(parts[2], 10, 64)
		}
		if number < 0 || !bytes.Equal(record.Value, numberedValue(parts[0], partition, number)) {
			say("wrong value in partition", partition, "at", record.Offset)
			continue
		}
		if count > 0 && producer == parts[0] && first+count == number && offset+count == record.Offset {
			count++
			continue
		}
		tell()
		offset, count, producer, first = record.Offset, 1, parts[0], number
	}
	tell()
}
