//! Facts about asking a controller that is somewhere else, or nowhere, or lost on the way.

use std::sync::atomic::AtomicI32;

use bytes::Bytes;

use super::*;

/// What several nodes agree on, without a network: who leads proposes, all are told.
#[derive(Default)]
struct Agreed {
    entries: Mutex<Vec<Entry>>,
    /// The broker that leads; 0 for nobody.
    leader: AtomicI32,
    /// The broker that hears of nothing; 0 for none.
    deaf: AtomicI32,
    wakes: Mutex<Vec<Wake>>,
}

impl Agreed {
    fn led_by(leader: i32) -> Arc<Self> {
        Arc::new(Self { leader: AtomicI32::new(leader), ..Self::default() })
    }

    fn elect(&self, leader: i32) {
        self.leader.store(leader, Ordering::SeqCst);
        self.wakes.lock().iter().for_each(|wake| wake());
    }

    /// From here on, and not in the middle of a look.
    fn deafen(&self, broker: i32) {
        let _looks = self.entries.lock();
        self.deaf.store(broker, Ordering::SeqCst);
    }

    fn role(&self, own: i32) -> LogRole {
        match self.leader.load(Ordering::SeqCst) {
            leader if leader == own => LogRole::Leader { term: 1 },
            0 => LogRole::Follower { leader: None },
            leader => LogRole::Follower { leader: Some(BrokerId(leader)) },
        }
    }
}

/// One node's view of it.
struct NodeLog {
    own: i32,
    agreed: Arc<Agreed>,
    told: usize,
    role: Option<LogRole>,
}

impl std::fmt::Debug for NodeLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeLog").field("own", &self.own).finish_non_exhaustive()
    }
}

impl MetadataLog for NodeLog {
    fn propose(&mut self, records: Vec<Record>) -> Result<MetadataOffset, LogError> {
        if let LogRole::Follower { leader } = self.agreed.role(self.own) {
            return Err(LogError::NotLeader { leader });
        }
        let mut entries = self.agreed.entries.lock();
        let offset = entries.last().map_or(MetadataOffset(1), |entry| entry.offset.next());
        entries.push(Entry { offset, records });
        drop(entries);
        self.agreed.wakes.lock().iter().for_each(|wake| wake());
        Ok(offset)
    }

    fn poll(&mut self) -> Vec<LogEvent> {
        let entries = self.agreed.entries.lock();
        if self.agreed.deaf.load(Ordering::SeqCst) == self.own {
            return Vec::new();
        }
        let mut events: Vec<_> =
            entries[self.told..].iter().cloned().map(LogEvent::Entry).collect();
        self.told = entries.len();
        let role = self.agreed.role(self.own);
        if self.role.replace(role) != Some(role) {
            events.push(LogEvent::Role(role));
        }
        events
    }

    fn on_news(&mut self, wake: Wake) {
        self.agreed.wakes.lock().push(wake);
    }

    fn wants_snapshot(&self) -> bool {
        false
    }

    fn store_snapshot(&mut self, _: &Snapshot) -> Result<(), LogError> {
        Ok(())
    }
}

/// Calls from controller to controller, which can get lost.
#[derive(Debug, Default)]
struct Lines {
    controllers: Mutex<Vec<Arc<Controller>>>,
    /// Calls whose answer does not arrive.
    lost: AtomicUsize,
    calls: AtomicUsize,
}

impl ControllerLink for Lines {
    fn call(&self, broker: BrokerId, request: Bytes, _: Duration) -> LinkAnswer<'_> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let at = usize::try_from(broker.0 - 1).unwrap();
        let controller = self.controllers.lock()[at].clone();
        Box::pin(async move {
            let answer = controller.answer(&request).await;
            let take_one = |left: usize| left.checked_sub(1);
            match self.lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one) {
                Ok(_) => Err(LinkError::NoAnswer("lost".to_owned())),
                Err(_) => Ok(answer),
            }
        })
    }
}

fn nodes(agreed: &Arc<Agreed>) -> (Vec<Arc<Controller>>, Arc<Lines>) {
    nodes_by(agreed, &(Arc::new(SystemClock::new()) as Arc<dyn Clock>))
}

fn nodes_by(agreed: &Arc<Agreed>, clock: &Arc<dyn Clock>) -> (Vec<Arc<Controller>>, Arc<Lines>) {
    let lines = Arc::new(Lines::default());
    let node = |own: i32| {
        let log = NodeLog { own, agreed: agreed.clone(), told: 0, role: None };
        let options = ControllerOptions {
            cluster_id: Uuid([5; 16]),
            config: Arc::new(BrokerConfig::default().with_node_id(own)),
            log: Box::new(log),
            recovered: Recovered::default(),
            random: Box::new(SeededRandom::new(3)),
            clock: clock.clone(),
            link: lines.clone(),
            threads: Threads::Real,
        };
        Arc::new(Controller::start(options).unwrap())
    };
    let controllers: Vec<_> = (1..=3).map(node).collect();
    lines.controllers.lock().clone_from(&controllers);
    (controllers, lines)
}

/// Ends the threads, which would otherwise keep each other.
fn hang_up(lines: &Lines) {
    lines.controllers.lock().clear();
}

#[test]
fn who_asks_elsewhere_sees_the_change_itself_before_it_is_answered() {
    let agreed = Agreed::led_by(1);
    let (controllers, lines) = nodes(&agreed);
    block_on(async {
        for (id, controller) in (1..).zip(&controllers) {
            let epoch = controller.register_broker(registration(id)).await.unwrap();
            assert_eq!(controller.images().load().broker(BrokerId(id)).unwrap().epoch, epoch);
        }
        let created = controllers[2].create_topics(vec![sized("t", 1, 1)], false).await;
        assert!(created[0].is_ok(), "{created:?}");
        assert!(controllers[2].images().load().topic("t").is_some());
        let again = controllers[1].create_topics(vec![sized("t", 1, 1)], false).await;
        let error = again[0].as_ref().unwrap_err();
        assert_eq!(error.kind(), AdminErrorKind::TopicExists);
        assert_eq!(error.to_string(), "topic \"t\" already exists", "in the words of who decided");
    });
    hang_up(&lines);
}

#[test]
fn a_request_waits_for_somebody_to_lead_and_finds_whoever_does() {
    let agreed = Agreed::led_by(0);
    let (controllers, lines) = nodes(&agreed);
    block_on(async {
        let asking = {
            let controller = controllers[1].clone();
            async move { controller.register_broker(registration(2)).await }
        };
        let electing = async {
            tokio::task::yield_now().await;
            agreed.elect(3);
        };
        let (registered, ()) = tokio::join!(asking, electing);
        registered.unwrap();
        agreed.elect(1);
        let controller = &controllers[1];
        controller.register_broker(registration(2)).await.unwrap();
        assert!(!controller.allocate_producer_ids().await.unwrap().is_empty());
    });
    hang_up(&lines);
}

#[test]
fn nobody_is_told_in_time_that_nobody_leads() {
    let agreed = Agreed::led_by(0);
    let (controllers, lines) = nodes(&agreed);
    block_on(async {
        let request = Request::AllocateProducerIds { broker: BrokerId(2) };
        let patience = Duration::from_millis(30);
        let error = controllers[1].ask_within(request, patience).await.unwrap_err();
        assert!(matches!(error, ControllerError::Unavailable(_)), "{error}");
    });
    hang_up(&lines);
}

/// With the set it may come by a higher `min.insync.replicas`, and would commit on too few.
#[test]
fn a_leader_does_not_hear_of_an_in_sync_set_before_it_has_the_metadata_it_was_decided_on() {
    let agreed = Agreed::led_by(1);
    let (controllers, lines) = nodes(&agreed);
    block_on(async {
        for (id, controller) in (1..).zip(&controllers) {
            controller.register_broker(registration(id)).await.unwrap();
        }
        agreed.deafen(2);
        assert!(controllers[0].create_topics(vec![sized("t", 1, 1)], false).await[0].is_ok());
        let ask = |patience| {
            let request = Request::AlterPartitions(Vec::new());
            controllers[1].ask_within(request, Duration::from_millis(patience))
        };
        let error = ask(30).await.unwrap_err();
        assert!(matches!(error, ControllerError::Uncertain), "{error}");
        agreed.deafen(0);
        agreed.elect(1);
        assert_eq!(ask(60_000).await.unwrap(), Response::AlterPartitions(Vec::new()));
        assert!(controllers[1].images().load().topic("t").is_some());
    });
    hang_up(&lines);
}

#[test]
fn sessions_end_however_often_the_controller_is_asked() {
    let agreed = Agreed::led_by(1);
    let clock = Arc::new(ManualClock::at(Timestamp(0)));
    let (controllers, lines) = nodes_by(&agreed, &(clock.clone() as Arc<dyn Clock>));
    let beat = |id: i32| {
        let controller = controllers[0].clone();
        async move {
            let image = controller.images().load();
            let epoch = image.broker(BrokerId(id)).unwrap().epoch;
            let applied = image.offset();
            let (broker, wants_to_leave) = (BrokerId(id), false);
            let beat = Heartbeat { broker, epoch, applied, wants_to_leave };
            controller.ask_within(Request::Heartbeat(beat), Duration::from_secs(60)).await.unwrap();
        }
    };
    let is_fenced = |id| controllers[0].images().load().broker(BrokerId(id)).unwrap().fenced;
    block_on(async {
        for (id, controller) in (1..).zip(&controllers) {
            controller.register_broker(registration(id)).await.unwrap();
            beat(id).await;
        }
        // As often as they come: the controller's thread never waits in vain.
        for _ in 0..SESSION_TIMEOUT.as_secs() {
            assert!(!is_fenced(2));
            clock.advance(Duration::from_secs(1));
            beat(3).await;
        }
        // What is committed after an answer is seen by the next.
        beat(3).await;
    });
    assert!(is_fenced(2) && !is_fenced(3));
    hang_up(&lines);
}

#[test]
fn what_may_have_been_decided_is_asked_again_only_where_that_changes_nothing() {
    let agreed = Agreed::led_by(1);
    let (controllers, lines) = nodes(&agreed);
    block_on(async {
        for (id, controller) in (1..).zip(&controllers) {
            controller.register_broker(registration(id)).await.unwrap();
        }
        let controller = &controllers[1];
        lines.lost.store(1, Ordering::SeqCst);
        let before = lines.calls.load(Ordering::SeqCst);
        let created = controller.create_topics(vec![sized("t", 1, 1)], false).await;
        assert_eq!(created[0].as_ref().unwrap_err().kind(), AdminErrorKind::Unavailable);
        assert_eq!(lines.calls.load(Ordering::SeqCst), before + 1);
        lines.lost.store(2, Ordering::SeqCst);
        assert!(!controller.allocate_producer_ids().await.unwrap().is_empty());
        assert_eq!(lines.calls.load(Ordering::SeqCst), before + 4);
        lines.lost.store(1, Ordering::SeqCst);
        let epoch = controller.images().load().broker(BrokerId(2)).unwrap().epoch;
        assert_eq!(controller.register_broker(registration(2)).await.unwrap(), epoch);
    });
    hang_up(&lines);
}
