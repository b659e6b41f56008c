package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// What the Go members of groups share: how they tell their lives, as ../README.md describes it.

const heartbeatInterval = 500 * time.Millisecond

type membership struct{ bootstrap, group, topic, protocol, instance string }

// A member with a name has time to come back.
func (m membership) sessionTimeout() time.Duration {
	if m.instance != "" {
		return 30 * time.Second
	}
	return 6 * time.Second
}

// COMMAND BOOTSTRAP GROUP TOPIC PROTOCOL [INSTANCE]
func membershipOf(args []string) membership {
	args = append(args, "")
	return membership{args[2], args[3], args[4], args[5], args[6]}
}

var telling sync.Mutex

func tell(event string, more map[string]any) {
	line := map[string]any{"at": time.Now().UnixMicro(), "event": event}
	for name, value := range more {
		line[name] = value
	}
	encoded, _ := json.Marshal(line)
	telling.Lock()
	defer telling.Unlock()
	fmt.Println(string(encoded))
}

func tellChange(event string, partitions []int32, generation int32) {
	if partitions == nil {
		partitions = []int32{}
	}
	tell(event, map[string]any{"partitions": partitions, "generation": generation})
}

// Closed when SIGTERM comes.
func stopAsked() <-chan os.Signal {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	return asked
}
