package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// digest of the values of one key, in order: see the manifest of ../real_input.rs.
type digest struct {
	partition    int32
	count, bytes int
	crc          uint32
}

// manifest reads the whole topic with franz-go and writes one line per key: key, partition, number of values,
// their bytes, and the CRC-32 over every value with its length before it.
func manifest(bootstrap, topic, file string) error {
	f, err := newFranz(bootstrap)
	if err != nil {
		return err
	}
	ends, err := f.admin.ListEndOffsets(within30s(), topic)
	if err != nil {
		return err
	}
	offsets, left := map[int32]kgo.Offset{}, int64(0)
	for partition, end := range ends[topic] {
		offsets[partition] = kgo.NewOffset().AtStart()
		left += end.Offset
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	if err != nil {
		return err
	}
	defer client.Close()
	keys := map[string]*digest{}
	for left > 0 {
		fetches := client.PollFetches(within30s())
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, r := range fetches.Records() {
			left--
			if err := add(keys, r); err != nil {
				return err
			}
		}
	}
	lines := make([]string, 0, len(keys))
	for key, d := range keys {
		lines = append(lines, fmt.Sprintf("%s\t%d\t%d\t%d\t%08x\n", key, d.partition, d.count, d.bytes, d.crc))
	}
	slices.Sort(lines)
	return os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644)
}

func add(keys map[string]*digest, r *kgo.Record) error {
	d := keys[string(r.Key)]
	if d == nil {
		d = &digest{partition: r.Partition}
		keys[string(r.Key)] = d
	}
	if d.partition != r.Partition {
		return fmt.Errorf("key %s in partitions %d and %d", r.Key, d.partition, r.Partition)
	}
	d.count++
	d.bytes += len(r.Value)
	d.crc = crc32.Update(d.crc, crc32.IEEETable, binary.BigEndian.AppendUint32(nil, uint32(len(r.Value))))
	d.crc = crc32.Update(d.crc, crc32.IEEETable, r.Value)
	return nil
}
