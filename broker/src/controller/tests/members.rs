//! Facts about brokers that come, stay and go.

use super::*;
use crate::metadata::PartitionState;

fn registered(cluster: &mut Cluster, start: BrokerStart) -> Result<i64, AdminError> {
    match cluster.ask(Request::RegisterBroker(start)) {
        Response::RegisterBroker(result) => result,
        other => panic!("{other:?}"),
    }
}

fn process(id: i32, incarnation: u8) -> BrokerStart {
    let mut start = registration(id);
    start.registration.incarnation = Uuid([incarnation; 16]);
    start
}

fn leave(cluster: &mut Cluster, id: i32, applied: MetadataOffset) -> Standing {
    let epoch = cluster.image.broker(BrokerId(id)).unwrap().epoch;
    let beat = Heartbeat { broker: BrokerId(id), epoch, applied, wants_to_leave: true };
    match cluster.ask(Request::Heartbeat(beat)) {
        Response::Heartbeat(Ok(standing)) => standing,
        other => panic!("{other:?}"),
    }
}

fn is_fenced(cluster: &Cluster, id: i32) -> bool {
    cluster.image.broker(BrokerId(id)).unwrap().fenced
}

fn state(cluster: &Cluster, topic: &str) -> PartitionState {
    cluster.image.topic(topic).unwrap().partition(0).unwrap().clone()
}

/// Time goes by; whoever is in `heard` is heard of at the end of it.
fn pass(cluster: &mut Cluster, time: Duration, heard: &[i32]) -> Vec<BrokerId> {
    cluster.now += time;
    let expired = cluster.sessions.expired(&cluster.image, cluster.now);
    let records = fence_all(&cluster.image, &expired);
    if !records.is_empty() {
        cluster.image = cluster.image.applied(cluster.image.offset().next(), &records).unwrap();
    }
    for id in heard {
        cluster.beat(*id, cluster.image.offset());
    }
    expired
}

#[test]
fn a_broker_is_fenced_until_it_knows_that_it_is_registered() {
    let mut cluster = Cluster::of(1, &[]);
    let epoch = registered(&mut cluster, process(2, 1)).unwrap();
    assert!(is_fenced(&cluster, 2));
    assert!(cluster.beat(2, MetadataOffset(epoch - 1)).fenced, "it has not seen its registration");
    assert!(!cluster.beat(2, MetadataOffset(epoch)).fenced);
    assert!(!is_fenced(&cluster, 2));
}

#[test]
fn the_controller_itself_takes_up_its_roles_in_the_entry_that_registers_it() {
    let mut cluster = Cluster::of(1, &[]);
    for topic in ["group", "os"] {
        cluster.create_one(sized(topic, 1, 1)).unwrap();
    }
    let os = change("flush.mode", ConfigOperation::Set, Some("os"));
    cluster.alter(ConfigTarget::Topic("os".to_owned()), os).unwrap();
    let (_, records) = cluster.ask_all(&[Request::RegisterBroker(process(1, 2))]);
    assert_eq!(records, 2, "the registration, and the partition that may have lost what was read");
    assert!(!is_fenced(&cluster, 1));
    assert_eq!(state(&cluster, "group").leader_epoch.0, 0);
    let os = state(&cluster, "os");
    assert_eq!((os.leader, os.leader_epoch.0 > 0), (Some(BrokerId(1)), true));
}

#[test]
fn the_same_process_is_registered_once_however_often_it_asks() {
    let mut cluster = Cluster::of(2, &[]);
    let again = registered(&mut cluster, process(2, 1)).unwrap();
    assert_eq!(again, cluster.image.broker(BrokerId(2)).unwrap().epoch);
    assert!(!is_fenced(&cluster, 2), "nothing has changed");
}

#[test]
fn another_disk_under_a_living_brokers_id_is_refused_until_that_one_is_silent() {
    let mut cluster = Cluster::of(2, &[]);
    let stranger = || {
        let mut start = process(2, 9);
        start.registration.storage_ids = vec![Uuid([99; 16])];
        start
    };
    let refused = registered(&mut cluster, stranger()).unwrap_err();
    assert_eq!(refused, AdminError::DuplicateBroker(BrokerId(2)));
    cluster.now += SESSION_TIMEOUT;
    assert!(registered(&mut cluster, stranger()).is_ok());
}

#[test]
fn silent_brokers_are_fenced_together_and_heard_ones_are_not() {
    let mut cluster = Cluster::of(4, &[]);
    cluster.create_one(sized("t", 8, 3)).unwrap();
    let second = Duration::from_secs(1);
    for _ in 0..5 {
        assert!(pass(&mut cluster, second, &[2]).is_empty());
    }
    let before = cluster.image.offset();
    assert_eq!(pass(&mut cluster, second, &[2]), ids(&[3, 4]));
    assert_eq!(cluster.image.offset(), before.next(), "in one entry");
    assert!(is_fenced(&cluster, 3) && is_fenced(&cluster, 4) && !is_fenced(&cluster, 2));
    assert!(!is_fenced(&cluster, 1), "the controller itself is not looked for");
    for partition in &cluster.image.topic("t").unwrap().partitions {
        assert!(partition.isr.iter().all(|id| [1, 2].contains(&id.0)), "{partition:?}");
    }
    cluster.image.check();
}

#[test]
fn a_controller_that_was_stopped_itself_blames_nobody() {
    let mut cluster = Cluster::of(3, &[]);
    assert!(pass(&mut cluster, Duration::from_secs(60), &[]).is_empty());
    let second = Duration::from_secs(1);
    for _ in 0..5 {
        assert!(pass(&mut cluster, second, &[2]).is_empty());
    }
    assert_eq!(pass(&mut cluster, second, &[2]), ids(&[3]), "a session later");
}

#[test]
fn a_new_controller_gives_everybody_a_fresh_session_and_asks_after_the_unheard() {
    let mut cluster = Cluster::of(3, &[]);
    cluster.now += Duration::from_secs(100);
    cluster.sessions = Sessions::new(BrokerId(1));
    cluster.sessions.begin(&cluster.image, cluster.now);
    assert!(cluster.sessions.expired(&cluster.image, cluster.now).is_empty());
    cluster.beat(2, cluster.image.offset());
    cluster.now += Duration::from_millis(700);
    let suspects = cluster.sessions.suspects(&cluster.image, cluster.now);
    assert_eq!(suspects.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [3]);
    assert!(cluster.sessions.suspects(&cluster.image, cluster.now).is_empty(), "not twice at once");
}

#[test]
fn whoever_was_asked_after_is_fenced_only_if_it_is_still_silent() {
    let mut cluster = Cluster::of(3, &[]);
    cluster.now += Duration::from_millis(1500);
    let suspects = cluster.sessions.suspects(&cluster.image, cluster.now);
    assert_eq!(suspects.len(), 2);
    cluster.beat(2, cluster.image.offset());
    for (broker, epoch) in suspects {
        let gone = Request::BrokerGone { broker, epoch, by_itself: false };
        assert_eq!(cluster.ask(gone), Response::BrokerGone(broker.0 == 3));
    }
    assert!(!is_fenced(&cluster, 2) && is_fenced(&cluster, 3));
}

#[test]
fn a_former_registration_is_told_so_and_changes_nothing() {
    let mut cluster = Cluster::of(2, &[]);
    let former = cluster.image.broker(BrokerId(2)).unwrap().epoch;
    cluster.start(2, 7);
    let before = cluster.image.clone();
    let (broker, applied) = (BrokerId(2), before.offset());
    let beat = Heartbeat { broker, epoch: former, applied, wants_to_leave: true };
    let answer = cluster.ask(Request::Heartbeat(beat));
    assert_eq!(answer, Response::Heartbeat(Err(AdminError::StaleRegistration(broker))));
    let gone = Request::BrokerGone { broker, epoch: former, by_itself: true };
    assert_eq!(cluster.ask(gone), Response::BrokerGone(false));
    assert_eq!(cluster.image, before);
}

#[test]
fn a_broker_leaves_once_others_lead_what_it_led_and_all_know() {
    let mut cluster = Cluster::of(3, &[]);
    cluster.create_one(sized("t", 6, 3)).unwrap();
    let before = cluster.image.offset();
    let standing = leave(&mut cluster, 2, before);
    assert_eq!(standing, Standing { fenced: false, leaving: true, may_leave: false });
    for partition in &cluster.image.topic("t").unwrap().partitions {
        assert!(!partition.isr.contains(&BrokerId(2)), "{partition:?}");
    }
    let now = cluster.image.offset();
    assert!(!leave(&mut cluster, 2, now).may_leave, "broker 3 has not heard of it");
    cluster.beat(3, before);
    assert!(!leave(&mut cluster, 2, now).may_leave);
    cluster.beat(3, now);
    assert!(leave(&mut cluster, 2, now).may_leave);
}

#[test]
fn a_broker_does_not_wait_for_what_nobody_can_take_over() {
    let mut cluster = Cluster::of(2, &[]);
    let by_hand = CreateTopic { assignments: vec![(0, ids(&[2]))], ..named("alone") };
    cluster.create_one(by_hand).unwrap();
    let all = cluster.image.offset();
    leave(&mut cluster, 2, all);
    let all = cluster.image.offset();
    assert!(leave(&mut cluster, 2, all).may_leave);
    assert_eq!(state(&cluster, "alone").leader, Some(BrokerId(2)), "until it is gone");
    let epoch = cluster.image.broker(BrokerId(2)).unwrap().epoch;
    let gone = Request::BrokerGone { broker: BrokerId(2), epoch, by_itself: true };
    assert_eq!(cluster.ask(gone), Response::BrokerGone(true));
    assert_eq!(state(&cluster, "alone").leader, None);
    cluster.start(2, 5);
    assert_eq!(state(&cluster, "alone").leader, Some(BrokerId(2)));
}

#[test]
fn leaders_go_back_to_the_first_replica_that_is_in_sync() {
    let mut cluster = Cluster::of(3, &[]);
    let by_hand = CreateTopic { assignments: vec![(0, ids(&[2, 3, 1]))], ..named("t") };
    cluster.create_one(by_hand).unwrap();
    let epoch = cluster.image.broker(BrokerId(2)).unwrap().epoch;
    cluster.ask(Request::BrokerGone { broker: BrokerId(2), epoch, by_itself: true });
    assert_eq!(state(&cluster, "t").leader, Some(BrokerId(3)));
    cluster.start(2, 3);
    assert!(replicas::prefer_first(&cluster.image).is_empty(), "it is not in sync yet");
    let state_now = state(&cluster, "t");
    let member = |id: i32| InSyncReplica {
        broker: BrokerId(id),
        epoch: BrokerEpoch(cluster.image.broker(BrokerId(id)).unwrap().epoch),
    };
    let question = AlterPartition {
        number: 1,
        leader: BrokerId(3),
        broker_epoch: member(3).epoch,
        leader_epoch: state_now.leader_epoch,
        partition_epoch: state_now.partition_epoch,
        in_sync: vec![member(3), member(1), member(2)],
    };
    let topic = cluster.image.topic("t").unwrap().id;
    let asked = Request::AlterPartitions(vec![AlterRequest { topic, index: 0, question }]);
    let Response::AlterPartitions(answers) = cluster.ask(asked) else { panic!() };
    assert!(matches!(answers[..], [AlterAnswer::Altered { .. }]), "{answers:?}");
    let records = replicas::prefer_first(&cluster.image);
    cluster.image = cluster.image.applied(cluster.image.offset().next(), &records).unwrap();
    assert_eq!(state(&cluster, "t").leader, Some(BrokerId(2)));
    assert!(replicas::prefer_first(&cluster.image).is_empty());
}

#[test]
fn a_topic_gets_three_replicas_where_there_are_as_many_brokers() {
    for (brokers, replicas, min_in_sync) in [(1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 3, 2)] {
        let mut cluster = Cluster::of(brokers, &[]);
        let created = cluster.create_one(named("t")).unwrap();
        assert_eq!(created.replication_factor, replicas, "{brokers} brokers");
        let topic = cluster.image.topic("t").unwrap();
        let state = topic.partition(0).unwrap();
        assert_eq!(state.min_in_sync(&topic.resolved), min_in_sync, "{brokers} brokers");
    }
    let mut cluster = Cluster::of(3, &[]);
    let epoch = cluster.image.broker(BrokerId(3)).unwrap().epoch;
    cluster.ask(Request::BrokerGone { broker: BrokerId(3), epoch, by_itself: true });
    assert_eq!(cluster.create_one(named("t")).unwrap().replication_factor, 3, "it will be back");
}

#[test]
fn replicas_stand_in_as_many_racks_as_there_are() {
    let racks = ["a", "a", "a", "b", "b", "c"];
    let mut cluster = Cluster::of(0, &[]);
    for (id, rack) in (1..).zip(racks) {
        let mut start = process(id, 1);
        start.registration.rack = Some(rack.to_owned());
        registered(&mut cluster, start).unwrap();
        cluster.beat(id, cluster.image.offset());
    }
    cluster.create_one(sized("t", 60, 3)).unwrap();
    let mut leads = std::collections::BTreeMap::<i32, usize>::new();
    for partition in &cluster.image.topic("t").unwrap().partitions {
        let rack = |id: &BrokerId| racks[usize::try_from(id.0).unwrap() - 1];
        let mut places: Vec<_> = partition.replicas.iter().map(rack).collect();
        places.sort_unstable();
        assert_eq!(places, ["a", "b", "c"], "{:?}", partition.replicas);
        *leads.entry(partition.leader.unwrap().0).or_default() += 1;
    }
    assert!(leads.len() == 6 && leads.values().all(|count| *count == 10), "{leads:?}");
}

#[test]
fn a_broker_that_is_restarted_gets_replicas_of_topics_made_meanwhile() {
    let mut cluster = Cluster::of(3, &[]);
    let silent = |cluster: &mut Cluster, heard: &[i32]| {
        (0..6).for_each(|_| drop(pass(cluster, Duration::from_secs(1), heard)));
    };
    silent(&mut cluster, &[2]);
    assert!(is_fenced(&cluster, 3));
    for topic in [sized("asked", 4, 3), CreateTopic { partitions: Some(4), ..named("auto") }] {
        assert_eq!(cluster.create_one(topic).unwrap().replication_factor, 3);
    }
    for partition in &cluster.image.topic("asked").unwrap().partitions {
        assert_eq!(partition.replicas[2], BrokerId(3), "it leads nothing at first");
        assert!(!partition.isr.contains(&BrokerId(3)) && partition.isr.len() == 2);
    }
    assert!(cluster.refusal(sized("more", 1, 4)).contains("the number of brokers, 3"));
    // One alone would not take writes with three.
    silent(&mut cluster, &[]);
    assert_eq!(cluster.create_one(named("alone")).unwrap().replication_factor, 1);
    assert_eq!(cluster.create_one(sized("asked-alone", 1, 3)).unwrap().replication_factor, 3);
}

/// What the first of two processes asked came late, together with the request of the second.
#[test]
fn a_broker_that_registers_twice_in_one_entry_comes_into_its_roles() {
    let mut cluster = Cluster::of(2, &[]);
    let register = |incarnation| Request::RegisterBroker(process(2, incarnation));
    cluster.ask_all(&[register(8), register(9)]);
    let (broker, offset) = (cluster.image.broker(BrokerId(2)).unwrap(), cluster.image.offset());
    assert!(broker.fenced && broker.epoch > offset.0, "{broker:?} at {offset:?}");
    assert!(cluster.beat(2, MetadataOffset(offset.0 - 1)).fenced, "it does not know yet");
    // Nothing else happens in the cluster.
    assert!(!cluster.beat(2, offset).fenced);
}
