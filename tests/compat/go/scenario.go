package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"time"
)

// client is what the scenario needs, in each library's own words.
type client interface {
	cluster() (id string, brokers []int32, controller int32, err error)
	createTopic(topic string, partitions int32) error
	topic(topic string) (map[int32]partition, error)
	addPartitions(topic string, total int) error
	deleteTopic(topic string) error
	produce(topic string, records []record, how produceOptions) error
	// Exactly count records, or an error after 30 s. start: an offset, earliest or latest; once it is
	// resolved, then is called.
	read(topic string, start map[int32]int64, count int, then func() error) ([]record, error)
	// The offset for earliest, latest, or a time in ms; -1 where there is none.
	offset(topic string, partition int32, when int64) (int64, error)
	commit(group, topic string, partition int32, offset int64, note string) error
	committed(group, topic string, partition int32) (offset int64, note string, err error)
	// A member of a group without commits, which begins at earliest or latest; at the offsets of a time in
	// ms, where there is one. What is polled comes within a second.
	member(group, topic string, start, at int64) (member, error)
	deleteBefore(topic string, partition int32, offset int64) (lowWatermark int64, err error)
	config(topic, key string) (value string, isDefault bool, err error)
	setConfig(topic, key string, value *string) error
	// Kafka's error code.
	code(err error) int16
}

type member interface {
	poll() ([]record, error)
	close()
}

type partition struct {
	leader int32
	isr    []int32
}

type produceOptions struct {
	codec, acks string
	idempotent  bool
}

type header struct {
	key   string
	value []byte
}

type record struct {
	partition         int32
	offset, timestamp int64
	key, value        []byte
	headers           []header
}

const (
	latest, earliest = int64(-1), int64(-2)

	unknownTopicOrPartition = 3
	messageTooLarge         = 10
	topicAlreadyExists      = 36
	invalidPartitions       = 37
	invalidConfig           = 40
)

var (
	codecs    = []string{"none", "gzip", "snappy", "lz4", "zstd"}
	base      = time.Now().Unix()*1000 - 3_600_000
	plain     = produceOptions{codec: "none", acks: "all"}
	retention = "604800000"
)

type scenario struct {
	client
	name, edge string
	failed     bool
}

func runScenario(c client, topic string) int {
	s := &scenario{client: c, name: topic, edge: topic + "-edge"}
	s.fact("cluster-described", s.clusterDescribed)
	s.fact("topic-created", s.topicCreated)
	s.fact("topic-exists-refused", func() error { return s.refused(topicAlreadyExists, s.createTopic(s.name, 6)) })
	s.fact("topic-described", func() error { return s.described(6) })
	s.fact("unknown-topic-refused", func() error {
		_, err := s.topic(s.name + "-unknown")
		return s.refused(unknownTopicOrPartition, err)
	})
	for partition, codec := range codecs {
		s.fact("produced-"+codec, func() error { return s.produced(int32(partition), codec) })
	}
	s.fact("idempotent", s.idempotent)
	s.fact("from-beginning", s.fromBeginning)
	s.fact("from-end", s.fromEnd)
	s.fact("from-timestamp", s.fromTimestamp)
	s.fact("earliest-and-latest", func() error {
		return errors.Join(s.offsetIs(s.name, earliest, 0), s.offsetIs(s.name, latest, 60))
	})
	s.fact("offset-for-timestamp", func() error {
		return errors.Join(s.offsetIs(s.name, base+30_000, 30), s.offsetIs(s.name, base+3_000_000, -1))
	})
	s.fact("committed-with-metadata", s.committedWithMetadata)
	s.fact("reset-earliest", func() error { return s.firstOfEach(0, "-earliest", earliest, 0) })
	s.fact("reset-latest", s.resetLatest)
	fmt.Println("n/a reset-none: where nothing is committed, a group begins at one end or the other")
	s.fact("group-seeks-to-time", func() error { return s.firstOfEach(30, "-seeks", latest, base+29_500) })
	s.fact("large-record", s.largeRecord)
	s.fact("too-large-refused", s.tooLargeRefused)
	s.fact("headers", s.headers)
	s.fact("nulls-and-empties", s.nullsAndEmpties)
	s.fact("records-deleted", s.recordsDeleted)
	s.fact("configs-described", func() error { return s.configIs(retention, true) })
	s.fact("config-altered", s.configAltered)
	s.fact("wrong-config-refused", s.wrongConfigRefused)
	s.fact("partitions-added", func() error {
		return firstError(
			func() error { return s.refused(invalidPartitions, s.addPartitions(s.name, 3)) },
			func() error { return s.addPartitions(s.name, 8) },
			func() error { return s.described(8) })
	})
	s.fact("topic-deleted", s.topicDeleted)
	if s.failed {
		return 1
	}
	return 0
}

func (s *scenario) clusterDescribed() error {
	id, brokers, controller, err := s.cluster()
	return errors.Join(err, equal(true, id != ""), equal([]int32{controller}, brokers))
}

func (s *scenario) topicCreated() error {
	return firstError(
		func() error { return s.createTopic(s.name, 6) },
		func() error { return s.createTopic(s.edge, 1) },
		func() error {
			return eventually(func() error {
				described, err := s.topic(s.edge)
				return errors.Join(err, equal(1, len(described)))
			})
		})
}

func (s *scenario) described(partitions int) error {
	return eventually(func() error {
		described, err := s.topic(s.name)
		if err != nil {
			return err
		}
		err = equal(partitions, len(described))
		for p := range int32(partitions) {
			err = errors.Join(err, equal([]int32{described[p].leader}, described[p].isr))
		}
		return err
	})
}

func (s *scenario) produced(partition int32, codec string) error {
	var every []record
	for _, acks := range []string{"all", "1", "0"} {
		var sent []record
		for n := int64(len(every)); n < int64(len(every)+20); n++ {
			value := strings.Repeat(fmt.Sprintf("%s-%s-%d;", codec, acks, n), 20)
			sent = append(sent, text(partition, n, fmt.Sprintf("key-%d", n), value))
		}
		if err := s.produce(s.name, sent, produceOptions{codec: codec, acks: acks}); err != nil {
			return fmt.Errorf("acks %s: %w", acks, err)
		}
		every = append(every, sent...)
	}
	return s.holds(s.name, partition, 0, every)
}

func (s *scenario) idempotent() error {
	var sent []record
	for n := range int64(100) {
		sent = append(sent, text(5, n, fmt.Sprintf("key-%d", n%7), fmt.Sprintf("idempotent-%d", n)))
	}
	if err := s.produce(s.name, sent, produceOptions{codec: "none", acks: "all", idempotent: true}); err != nil {
		return err
	}
	return s.holds(s.name, 5, 0, sent)
}

func (s *scenario) fromBeginning() error {
	start := map[int32]int64{}
	for p := range int32(6) {
		start[p] = earliest
	}
	seen, err := s.read(s.name, start, 400, nil)
	if err != nil {
		return err
	}
	next := make([]int64, 6)
	for _, r := range seen {
		err = errors.Join(err, equal(next[r.partition], r.offset))
		next[r.partition]++
	}
	return errors.Join(err, equal([]int64{60, 60, 60, 60, 60, 100}, next))
}

func (s *scenario) fromEnd() error {
	tail := text(5, 100, "tail", "tail")
	seen, err := s.read(s.name, map[int32]int64{5: latest}, 1, func() error {
		return s.produce(s.name, []record{tail}, plain)
	})
	return errors.Join(err, equal([]record{tail}, seen))
}

func (s *scenario) fromTimestamp() error {
	offset, err := s.offset(s.name, 0, base+29_500)
	if err != nil {
		return err
	}
	seen, err := s.read(s.name, map[int32]int64{0: offset}, 30, nil)
	if err != nil {
		return err
	}
	return errors.Join(equal(int64(30), seen[0].offset), equal(base+30_000, seen[0].timestamp))
}

func (s *scenario) committedWithMetadata() error {
	if err := s.commit(s.name+"-notes", s.name, 1, 7, "a note, ümlaut"); err != nil {
		return err
	}
	offset, note, err := s.committed(s.name+"-notes", s.name, 1)
	return errors.Join(err, equal(int64(7), offset), equal("a note, ümlaut", note))
}

// A new group, in which each partition begins at the offset.
func (s *scenario) firstOfEach(offset int64, group string, start, at int64) error {
	m, err := s.member(s.name+group, s.name, start, at)
	if err != nil {
		return err
	}
	defer m.close()
	first, expected := map[int32]int64{}, map[int32]int64{}
	for p := range int32(6) {
		expected[p] = offset
	}
	for deadline := time.Now().Add(30 * time.Second); len(first) < 6 && time.Now().Before(deadline); {
		seen, err := m.poll()
		if err != nil {
			return err
		}
		for _, r := range seen {
			if _, known := first[r.partition]; !known {
				first[r.partition] = r.offset
			}
		}
	}
	return equal(expected, first)
}

func (s *scenario) resetLatest() error {
	end, err := s.offset(s.name, 5, latest)
	if err != nil {
		return err
	}
	m, err := s.member(s.name+"-latest", s.name, latest, 0)
	if err != nil {
		return err
	}
	defer m.close()
	var seen []record
	for deadline := time.Now().Add(30 * time.Second); len(seen) == 0 && time.Now().Before(deadline); {
		if err := s.produce(s.name, []record{text(5, 0, "late", "late")}, plain); err != nil {
			return err
		}
		if seen, err = m.poll(); err != nil {
			return err
		}
	}
	err = equal(true, len(seen) > 0)
	for _, r := range seen {
		err = errors.Join(err, equal(int32(5), r.partition), equal(true, r.offset >= end))
	}
	return err
}

func (s *scenario) largeRecord() error {
	sent := record{timestamp: base, value: noise(7, 900_000)}
	if err := s.produce(s.edge, []record{sent}, plain); err != nil {
		return err
	}
	return s.holds(s.edge, 0, 0, []record{sent})
}

func (s *scenario) tooLargeRefused() error {
	sent := record{offset: 1, timestamp: base, value: noise(8, 1_100_000)}
	err := s.refused(messageTooLarge, s.produce(s.edge, []record{sent}, plain))
	return errors.Join(err, s.offsetIs(s.edge, latest, 1))
}

func (s *scenario) headers() error {
	sent := record{offset: 1, timestamp: base, key: []byte("h"), value: []byte("v"), headers: []header{
		{"a", []byte("1")}, {"a", []byte("2")}, {"empty", []byte{}}, {"null", nil}, {"bytes", []byte{0, 255, '\n'}}}}
	if err := s.produce(s.edge, []record{sent}, plain); err != nil {
		return err
	}
	return s.holds(s.edge, 0, 1, []record{sent})
}

func (s *scenario) nullsAndEmpties() error {
	sent := []record{
		{offset: 2, timestamp: base, value: []byte("v")},
		{offset: 3, timestamp: base, key: []byte("k")},
		{offset: 4, timestamp: base, key: []byte{}, value: []byte{}},
		{offset: 5, timestamp: base},
	}
	if err := s.produce(s.edge, sent, plain); err != nil {
		return err
	}
	return s.holds(s.edge, 0, 2, sent)
}

func (s *scenario) recordsDeleted() error {
	low, err := s.deleteBefore(s.name, 0, 10)
	if err = errors.Join(err, equal(int64(10), low), s.offsetIs(s.name, earliest, 10)); err != nil {
		return err
	}
	seen, err := s.read(s.name, map[int32]int64{0: earliest}, 50, nil)
	if err != nil {
		return err
	}
	return equal(int64(10), seen[0].offset)
}

func (s *scenario) configIs(value string, isDefault bool) error {
	return eventually(func() error {
		seen, seenDefault, err := s.config(s.name, "retention.ms")
		return errors.Join(err, equal(value, seen), equal(isDefault, seenDefault))
	})
}

func (s *scenario) configAltered() error {
	hour := "3600000"
	return firstError(
		func() error { return s.setConfig(s.name, "retention.ms", &hour) },
		func() error { return s.configIs(hour, false) },
		func() error { return s.setConfig(s.name, "retention.ms", nil) },
		func() error { return s.configIs(retention, true) })
}

func (s *scenario) wrongConfigRefused() error {
	one, long := "1", "long"
	return errors.Join(
		s.refused(invalidConfig, s.setConfig(s.name, "retention.sm", &one)),
		s.refused(invalidConfig, s.setConfig(s.name, "retention.ms", &long)),
		s.configIs(retention, true))
}

func (s *scenario) topicDeleted() error {
	if err := errors.Join(s.deleteTopic(s.name), s.deleteTopic(s.edge)); err != nil {
		return err
	}
	return eventually(func() error {
		_, err := s.topic(s.name)
		return s.refused(unknownTopicOrPartition, err)
	})
}

// What the facts are made of.

func (s *scenario) fact(name string, check func() error) {
	if err := check(); err != nil {
		s.failed = true
		fmt.Printf("FAIL %s: %.2000s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
	} else {
		fmt.Printf("ok %s\n", name)
	}
}

func (s *scenario) refused(code int16, err error) error {
	if err == nil {
		return fmt.Errorf("expected error %d, it succeeded", code)
	}
	if seen := s.code(err); seen != code {
		return fmt.Errorf("expected error %d, seen %d: %w", code, seen, err)
	}
	return nil
}

func (s *scenario) holds(topic string, partition int32, offset int64, expected []record) error {
	seen, err := s.read(topic, map[int32]int64{partition: offset}, len(expected), nil)
	return errors.Join(err, equal(expected, seen))
}

func (s *scenario) offsetIs(topic string, when, expected int64) error {
	seen, err := s.offset(topic, 0, when)
	return errors.Join(err, equal(expected, seen))
}

func text(partition int32, n int64, key, value string) record {
	return record{partition: partition, offset: n, timestamp: base + 1000*n, key: []byte(key), value: []byte(value)}
}

func noise(seed byte, length int) []byte {
	value := make([]byte, length)
	rand.NewChaCha8([32]byte{seed}).Read(value)
	return value
}

// equal tells null from empty: reflect.DeepEqual does.
func equal(expected, seen any) error {
	if reflect.DeepEqual(expected, seen) {
		return nil
	}
	return fmt.Errorf("expected %.300s, seen %.300s", fmt.Sprintf("%#v", expected), fmt.Sprintf("%#v", seen))
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// eventually: metadata may arrive a moment after the change is acknowledged; 10 s at most.
func eventually(check func() error) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err := check(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
