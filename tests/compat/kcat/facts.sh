#!/usr/bin/env bash
# The scenario of ../README.md with kcat, which cannot administer: TOPIC (6 partitions) and TOPIC-edge (1) exist.
# Usage: facts.sh BOOTSTRAP TOPIC
set -uo pipefail
bootstrap=$1 topic=$2 edge=$2-edge
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
codecs=(none gzip snappy lz4 zstd)
failed=0

produce() { timeout 30 kcat -b "$bootstrap" -P -X message.max.bytes=2000000 "$@"; }
consume() { timeout 30 kcat -b "$bootstrap" -C -q "$@"; } # partition, offset and count are the caller's

fact() { # NAME FUNCTION [ARGUMENT...]: the function's output, if it fails, is the reason
  local why
  if why=$("${@:2}" 2>&1); then
    echo "ok $1"
  else
    failed=1
    echo "FAIL $1: $(tr '\n' ' ' <<< "${why:0:600}")"
  fi
}

cluster_described() { # one broker, and it is the controller; kcat does not show the cluster id
  kcat -b "$bootstrap" -L -J > cluster
  id=$(grep -oP '"controllerid":\K[0-9]+' cluster)
  grep -qP "\"brokers\":\[\{\"id\":$id,[^]}]*\}\]" cluster || { cat cluster; return 1; }
}

described() {
  kcat -b "$bootstrap" -L -J -t "$topic" > described
  id=$(grep -oP '"controllerid":\K[0-9]+' described)
  for p in 0 1 2 3 4 5; do
    grep -q "{\"partition\":$p,\"leader\":$id,\"replicas\":\[{\"id\":$id}\],\"isrs\":\[{\"id\":$id}\]}" described ||
      { cat described; return 1; }
  done
  [ "$(grep -o '"partition":' described | wc -l)" = 6 ]
}

unknown_topic() {
  kcat -b "$bootstrap" -L -J -t "$topic-unknown" | tee seen
  grep -q 'Unknown topic or partition' seen || return 1
  # Created a moment ago, it might still appear: librdkafka waits 30 s for that unless told otherwise.
  echo x | produce -t "$topic-unknown" -p 0 -X topic.metadata.propagation.max.ms=500 2> seen && return 1
  grep -q 'Unknown topic or partition' seen
}

produced() { # CODEC PARTITION
  local acks n=0 i
  : > expected
  for acks in all 1 0; do
    : > sent
    for ((i = 0; i < 20; i++, n++)); do
      echo "key-$n:$1-$acks-$n;$1-$acks-$n;$1-$acks-$n;$1-$acks-$n" >> sent
      echo "$2 $n $(tail -1 sent)" >> expected
    done
    produce -t "$topic" -p "$2" -K: -z "$1" -X acks=$acks < sent || return 1
  done
  consume -t "$topic" -p "$2" -o 0 -c 60 -f '%p %o %k:%s\n' > seen && diff expected seen
}

idempotent() {
  local n
  for ((n = 0; n < 100; n++)); do echo "key-$((n % 7)):idempotent-$n"; done > sent
  produce -t "$topic" -p 5 -K: -X enable.idempotence=true -X batch.num.messages=10 < sent || return 1
  consume -t "$topic" -p 5 -o 0 -c 100 -f '%k:%s\n' > seen && diff sent seen
}

from_beginning() {
  local p
  consume -t "$topic" -o beginning -e -f '%p %o\n' > seen || return 1
  for p in 0 1 2 3 4 5; do
    diff <(seq 0 $((p < 5 ? 59 : 99))) <(awk -v p=$p '$1 == p { print $2 }' seen) || return 1
  done
}

from_end() {
  : > progress
  timeout 30 kcat -b "$bootstrap" -C -u -t "$topic" -p 5 -o end -c 1 -f '%o %k:%s\n' > seen 2>> progress &
  local reader=$!
  # kcat says when it stands at the end: only then is the record produced.
  timeout 20 grep -qm1 'Reached end of topic' <(tail -f progress --pid=$reader) || { cat progress; return 1; }
  echo tail:tail | produce -t "$topic" -p 5 -K: || return 1
  wait $reader
  echo "100 tail:tail" | diff - seen
}

first_from() { # TIMESTAMP: the offset it should be, by the timestamps of all records
  consume -t "$topic" -p 0 -o 0 -c 60 -f '%T %o\n' | awk -v t="$1" '$1 >= t { print $2; exit }'
}

from_timestamp() {
  local t
  t=$(consume -t "$topic" -p 0 -o 40 -c 1 -f '%T') || return 1
  consume -t "$topic" -p 0 -o "s@$t" -c 1 -f '%o\n' > seen
  first_from "$t" | diff - seen
}

offset_is() { # TOPIC WHEN EXPECTED
  kcat -b "$bootstrap" -Q -t "$1:0:$2" > seen
  echo "$1 [0] offset $3" | diff - seen
}

earliest_and_latest() { offset_is "$topic" -2 0 && offset_is "$topic" -1 60; }

offset_for_timestamp() {
  local t
  t=$(consume -t "$topic" -p 0 -o 40 -c 1 -f '%T') || return 1
  offset_is "$topic" "$t" "$(first_from "$t")" && offset_is "$topic" $((t + 3000000)) -1
}

group() { # NAME POLICY [ARGUMENT...]: a member of a group
  timeout 40 kcat -b "$bootstrap" -G "$topic-$1" -X auto.offset.reset="$2" -X enable.auto.commit=false \
    -u -f '%p %o\n' "${@:3}" "$topic"
}

reset_earliest() {
  local p
  group earliest earliest -c 401 > seen 2> progress || { cat progress; return 1; }
  for p in 0 1 2 3 4 5; do
    [ "$(awk -v p=$p '$1 == p { print $2; exit }' seen)" = 0 ] || { cat seen; return 1; }
  done
}

reset_latest() {
  local i end
  end=$(kcat -b "$bootstrap" -Q -t "$topic:5:-1" | awk '{ print $NF }')
  : > seen
  group latest latest -c 1 >> seen 2> progress &
  local reader=$!
  for ((i = 0; i < 60; i++)); do
    [ -s seen ] && break
    echo late:late | produce -t "$topic" -p 5 -K: || return 1
    sleep 0.5
  done
  wait $reader
  awk -v end="$end" 'NR == 1 { good = $1 == 5 && $2 >= end } END { exit !good }' seen || { cat seen progress; return 1; }
}

reset_none() {
  group none error -c 1 > seen 2> progress && return 1
  grep -q 'no previously committed offset available' progress || { cat progress; return 1; }
}

large_record() {
  head -c 900000 /dev/urandom > large
  produce -t "$edge" -p 0 large || return 1 # a file is one record
  consume -t "$edge" -p 0 -o 0 -c 1 -f '%s' | cmp - large
}

too_large() {
  head -c 1100000 /dev/urandom > large
  produce -t "$edge" -p 0 -X message.timeout.ms=10000 large 2> seen && return 1
  grep -q 'Broker: Message size too large' seen || { cat seen; return 1; }
  offset_is "$edge" -1 1
}

headers() {
  echo v | produce -t "$edge" -p 0 -H a=1 -H a=2 -H empty= -H null || return 1
  consume -t "$edge" -p 0 -o 1 -c 1 -J > seen
  grep -qF '"headers":["a","1","a","2","empty","","null",null]' seen || { cat seen; return 1; }
}

nulls_and_empties() {
  printf 'v\nk:\n' | produce -t "$edge" -p 0 -K: -Z || return 1 # null key; null value
  printf 'k:\n' | produce -t "$edge" -p 0 -K: || return 1 # empty value
  consume -t "$edge" -p 0 -o 2 -c 3 -f '%o [%k] %K [%s] %S\n' > seen
  printf '%s\n' '2 [] -1 [v] 1' '3 [k] 1 [] -1' '4 [k] 1 [] 0' | diff - seen
}

fact cluster-described cluster_described
echo "n/a topic-created: kcat cannot administer"
echo "n/a topic-exists-refused: kcat cannot administer"
fact topic-described described
fact unknown-topic-refused unknown_topic
for p in 0 1 2 3 4; do fact "produced-${codecs[p]}" produced "${codecs[p]}" "$p"; done
fact idempotent idempotent
fact from-beginning from_beginning
fact from-end from_end
fact from-timestamp from_timestamp
fact earliest-and-latest earliest_and_latest
fact offset-for-timestamp offset_for_timestamp
echo "n/a committed-with-metadata: kcat commits by itself, and has no notes"
fact reset-earliest reset_earliest
fact reset-latest reset_latest
fact reset-none reset_none
echo "n/a group-seeks-to-time: kcat cannot move a group"
fact large-record large_record
fact too-large-refused too_large
fact headers headers
fact nulls-and-empties nulls_and_empties
for name in records-deleted configs-described config-altered wrong-config-refused partitions-added topic-deleted; do
  echo "n/a $name: kcat cannot administer"
done
exit $failed
