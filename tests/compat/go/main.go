// Go clients against a running broker.
//
//	compat-go franz-go BOOTSTRAP TOPIC          the scenario of ../README.md
//	compat-go sarama BOOTSTRAP TOPIC            the same
//	compat-go manifest BOOTSTRAP TOPIC FILE     reads a topic with franz-go, see real_input.rs
//	compat-go franz-go-member BOOTSTRAP GROUP TOPIC PROTOCOL [INSTANCE]    a member of a group
//	compat-go sarama-member BOOTSTRAP GROUP TOPIC PROTOCOL [INSTANCE]      the same
//	compat-go franz-go-write BOOTSTRAP TOPIC PARTITIONS PRODUCER RATE      numbered records
//	compat-go franz-go-read BOOTSTRAP TOPIC PARTITIONS                     reads them
package main

import (
	"fmt"
	"os"
)

func main() {
	command, bootstrap, topic := os.Args[1], os.Args[2], os.Args[3]
	var err error
	switch command {
	case "franz-go":
		var client *franz
		if client, err = newFranz(bootstrap); err == nil {
			os.Exit(runScenario(client, topic))
		}
	case "sarama":
		var client *saramaClient
		if client, err = newSarama(bootstrap); err == nil {
			os.Exit(runScenario(client, topic))
		}
	case "manifest":
		err = manifest(bootstrap, topic, os.Args[4])
	case "franz-go-member":
		err = franzMember(membershipOf(os.Args))
	case "sarama-member":
		err = saramaMember(membershipOf(os.Args))
	case "franz-go-write":
		err = franzWrite(os.Args[2:])
	case "franz-go-read":
		err = franzRead(os.Args[2:])
	default:
		err = fmt.Errorf("unknown command %q", command)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
