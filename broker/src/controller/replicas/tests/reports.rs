//! Facts about what brokers tell of their replicas: where they are, and which are no good.

use super::*;
use crate::metadata::ReplicaReport;

const A: Uuid = Uuid([0xa; 16]);
const B: Uuid = Uuid([0xb; 16]);

fn told(broker: i32, placed: &[Uuid], damaged: bool) -> ReplicaReport {
    ReplicaReport {
        broker: BrokerId(broker),
        epoch: 0,
        placed: placed.iter().map(|storage| (*storage, vec![(TOPIC, 0)])).collect(),
        damaged: if damaged { vec![(TOPIC, 0)] } else { vec![] },
    }
}

/// A process of broker 1 on two disks.
fn on_two(storage_ids: [Uuid; 2]) -> BrokerStart {
    let mut start = start(1, 1);
    start.registration.storage_ids = storage_ids.to_vec();
    start
}

impl Cluster {
    fn hear(&mut self, told: &ReplicaReport) {
        self.take(report(&self.image, told));
    }
}

#[test]
fn a_replica_that_fails_hands_its_leadership_over_and_is_not_eligible() {
    let mut cluster = Cluster::new();
    cluster.hear(&told(1, &[], true));
    assert_eq!(cluster.shape(), (vec![2, 3], vec![], Some(2), 1));
    cluster.hear(&told(2, &[], true));
    assert_eq!(cluster.shape(), (vec![3], vec![], Some(3), 2), "2 would be eligible, but for that");
    assert_eq!(report(&cluster.image, &told(1, &[], true)), [], "it counts for nothing any more");
}

#[test]
fn the_last_replica_leads_what_is_left_of_it() {
    let mut cluster = Cluster::new();
    cluster.set_isr(&[1, 2]);
    cluster.hear(&told(2, &[], true));
    assert_eq!(cluster.shape(), (vec![1], vec![], Some(1), 0));
    assert_eq!(report(&cluster.image, &told(1, &[], true)), [], "nobody else has everything");
    cluster.set_isr(&[1, 3]);
    cluster.hear(&told(1, &[], true));
    assert_eq!(cluster.shape(), (vec![3], vec![], Some(3), 1), "now somebody has");
}

#[test]
fn an_eligible_replica_that_fails_is_not_elected() {
    let mut cluster = Cluster::new();
    cluster.set_isr(&[1]);
    assert_eq!(cluster.shape().1, [2, 3]);
    cluster.hear(&told(2, &[], true));
    cluster.fence(1);
    assert_eq!(cluster.shape(), (vec![3], vec![1], Some(3), 1));
}

#[test]
fn only_replicas_in_the_directory_that_is_lost_are_lost() {
    for (lost, stays) in [(A, false), (B, true)] {
        let mut cluster = Cluster::new();
        cluster.register(&on_two([A, B]));
        cluster.unfence(1);
        cluster.set_isr(&[2, 1]);
        cluster.hear(&told(1, &[A], false));
        assert_eq!(cluster.state().storage_of(BrokerId(1)), Some(A));
        cluster.hear(&told(1, &[A], false));
        // Below the minimum whoever leaves stays eligible, if its disk is there.
        cluster.fence(2);
        assert_eq!(cluster.shape(), (vec![1], vec![2], Some(1), 2));
        let left = if lost == A { B } else { A };
        cluster.register(&on_two([left, Uuid([0xc; 16])]));
        assert_eq!(cluster.shape().1.contains(&1), stays, "{:?}", cluster.shape());
    }
}

#[test]
fn a_replica_is_noted_where_it_is_and_nowhere_else() {
    let mut cluster = Cluster::new();
    cluster.register(&on_two([A, B]));
    let noted = |cluster: &Cluster, broker| cluster.state().storage_of(BrokerId(broker));
    assert_eq!(noted(&cluster, 1), None);
    cluster.hear(&told(1, &[Uuid([0xd; 16])], false));
    assert_eq!(noted(&cluster, 1), None, "no directory of that broker");
    cluster.hear(&told(5, &[Uuid([5; 16])], false));
    assert_eq!(noted(&cluster, 5), None, "no replica on that broker");
    cluster.hear(&told(1, &[B], false));
    cluster.hear(&told(2, &[Uuid([2; 16])], false));
    assert_eq!((noted(&cluster, 1), noted(&cluster, 3)), (Some(B), None));
    assert_eq!(report(&cluster.image, &told(1, &[B], false)), [], "that is known");
    // Moved by hand to the other disk, while the broker was down.
    cluster.hear(&told(1, &[A], false));
    assert_eq!((noted(&cluster, 1), noted(&cluster, 2)), (Some(A), Some(Uuid([2; 16]))));
}
