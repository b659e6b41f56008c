// Prints what Apache Kafka's own range assignor gives in seeded groups with racks, for the tests of
// client/src/group/assignor. One group a line:
//   topics with the racks of each partition's replicas | members: id/instance/rack/topics | shares
// Usage: java -cp 'JARS/*' RangeAssignments.java > client/src/group/assignor/range_of_kafka.txt

import java.util.*;
import java.util.stream.*;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.*;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.*;

public class RangeAssignments {
  static final Random random = new Random(7);

  public static void main(String[] args) {
    for (int group = 0; group < 60; group++) System.out.println(line());
  }

  static String line() {
    int racks = 1 + random.nextInt(3);
    Node[] nodes = new Node[racks + random.nextInt(3)];
    for (int id = 0; id < nodes.length; id++)
      nodes[id] = new Node(id, "h", 1, random.nextInt(8) == 0 ? null : "r" + id % racks);
    List<PartitionInfo> partitions = new ArrayList<>();
    List<String> topics = new ArrayList<>(), told = new ArrayList<>();
    int alike = 1 + random.nextInt(8);
    for (int at = 1 + random.nextInt(3); at > 0; at--) {
      String topic = "t" + at;
      topics.add(topic);
      int count = random.nextBoolean() ? alike : 1 + random.nextInt(8);
      List<PartitionInfo> its = topic(topic, count, nodes);
      partitions.addAll(its);
      told.add(topic + "=" + its.stream().map(RangeAssignments::racks).collect(Collectors.joining(",")));
    }
    Map<String, Subscription> members = new TreeMap<>();
    List<String> described = new ArrayList<>();
    for (int id = random.nextInt(5); id >= 0; id--) described.add(member("m" + id, racks, topics, members));
    Set<String> none = Collections.emptySet();
    Cluster cluster = new Cluster("c", Arrays.asList(nodes), partitions, none, none);
    Map<String, Assignment> shares =
        new RangeAssignor().assign(cluster, new GroupSubscription(members)).groupAssignment();
    String given = new TreeMap<>(shares).entrySet().stream()
        .map(one -> one.getKey() + "=" + one.getValue().partitions().stream()
            .map(TopicPartition::toString).sorted().collect(Collectors.joining(",")))
        .collect(Collectors.joining(" "));
    return String.join(" ", told) + " | " + String.join(" ", described) + " | " + given;
  }

  static List<PartitionInfo> topic(String topic, int count, Node[] nodes) {
    List<PartitionInfo> all = new ArrayList<>();
    Node[] replicas = new Node[1 + random.nextInt(Math.min(nodes.length, 3))];
    for (int partition = 0; partition < count; partition++) {
      int first = random.nextInt(nodes.length);
      for (int at = 0; at < replicas.length; at++) replicas[at] = nodes[(first + at) % nodes.length];
      all.add(new PartitionInfo(topic, partition, replicas[0], replicas.clone(), replicas.clone()));
    }
    return all;
  }

  static String racks(PartitionInfo partition) {
    return Arrays.stream(partition.replicas()).map(Node::rack).filter(Objects::nonNull)
        .sorted().distinct().collect(Collectors.joining("+"));
  }

  static String member(String id, int racks, List<String> topics, Map<String, Subscription> members) {
    String rack = random.nextInt(6) == 0 ? null : "r" + random.nextInt(racks + random.nextInt(5) / 4);
    List<String> wanted = new ArrayList<>(topics);
    if (random.nextInt(4) == 0 && wanted.size() > 1) wanted.remove(random.nextInt(wanted.size()));
    Optional<String> instance = random.nextInt(5) == 0 ? Optional.of("i" + random.nextInt(99)) : Optional.empty();
    Subscription one =
        new Subscription(wanted, null, Collections.emptyList(), -1, Optional.ofNullable(rack));
    one.setGroupInstanceId(instance);
    members.put(id, one);
    return id + "/" + instance.orElse("") + "/" + (rack == null ? "" : rack) + "/" + String.join("+", wanted);
  }
}
