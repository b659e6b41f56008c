//! What clients are told of brokers that are about to be fenced, or have just been.
//!
//! A client that loses its leader asks another broker within the same millisecond. Told of the leader it
//! has just lost it waits for its next turn, which is a second away with librdkafka; others lead some ten
//! milliseconds later. So where it is being found out whether a broker is gone, answers that name it wait
//! for what comes of that.
//!
//! A broker that was fenced a moment ago is still among those that clients are told of, as is one that
//! nobody has missed yet: librdkafka drops a broker it is not told of, and with it the partitions that are
//! on their way from there to their next leader, until it asks again a second later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::base::BrokerId;
use crate::base::watched::Watched;
use crate::controller::ImageSubscriber;
use crate::metadata::{Broker, Image};

/// How long an answer waits: elections take a tenth of it.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a fenced broker is named with the others; longer than clients take to ask again.
const NAMED: Duration = Duration::from_secs(5);

/// Brokers on their way out.
#[derive(Debug)]
pub(crate) struct Departing {
    doubted: watch::Receiver<BTreeSet<BrokerId>>,
    /// When brokers were fenced that were not.
    fenced: Mutex<BTreeMap<BrokerId, Instant>>,
}

impl Departing {
    /// `doubted` are those of which it is being found out whether they are gone.
    pub(crate) fn new(doubted: watch::Receiver<BTreeSet<BrokerId>>) -> Arc<Self> {
        Arc::new(Self { doubted, fenced: Mutex::default() })
    }

    /// Returns the image to answer from: where what it `names` is in doubt, the one that settles that,
    /// if it comes soon.
    pub(crate) async fn settled(
        &self,
        images: impl FnOnce() -> Watched<Arc<Image>>,
        image: Arc<Image>,
        names: impl Fn(&Image, &BTreeSet<BrokerId>) -> bool,
    ) -> Arc<Image> {
        if !self.is_in_doubt(&image, &names) {
            return image;
        }
        let deadline = Instant::now() + PATIENCE;
        let mut doubted = self.doubted.clone();
        let mut images = images();
        loop {
            doubted.borrow_and_update();
            let image = images.get();
            if !self.is_in_doubt(&image, &names) {
                return image;
            }
            // All branches only wait: dropping them loses nothing.
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return image },
                changed = doubted.changed() => if changed.is_err() { return image },
                () = sleep_until(deadline) => return image,
            }
        }
    }

    fn is_in_doubt(
        &self,
        image: &Image,
        names: &impl Fn(&Image, &BTreeSet<BrokerId>) -> bool,
    ) -> bool {
        let doubted = self.doubted.borrow();
        !doubted.is_empty() && names(image, &doubted)
    }

    /// The brokers that were fenced a moment ago.
    pub(crate) fn lately_fenced<'a>(&self, image: &'a Image) -> Vec<&'a Broker> {
        let fenced = self.fenced.lock();
        let lately = fenced.iter().filter(|(_, at)| at.elapsed() < NAMED);
        let known = lately.filter_map(|(id, _)| image.broker(*id));
        known.filter(|broker| broker.fenced).collect()
    }
}

impl ImageSubscriber for Departing {
    fn image_changed(&self, old: &Image, new: &Arc<Image>) {
        if old.same_brokers(new) {
            return;
        }
        let mut fenced = self.fenced.lock();
        fenced.retain(|id, _| new.broker(*id).is_some_and(|broker| broker.fenced));
        for was in old.live_brokers() {
            if new.broker(was.id).is_some_and(|broker| broker.fenced) {
                fenced.insert(was.id, Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::watched::watched;
    use crate::controller::replicas::fence;
    use crate::controller::tests::sample;

    /// Two images: before and after broker 2 was fenced.
    fn fencing() -> (Arc<Image>, Arc<Image>) {
        let before = sample(3, &[], &[]);
        let after = before.applied(before.offset().next(), &fence(&before, BrokerId(2)));
        (before, Arc::new(after.expect("it applies")))
    }

    fn counts_on(image: &Image, doubted: &BTreeSet<BrokerId>) -> bool {
        doubted.iter().any(|id| image.broker(*id).is_some_and(|broker| !broker.fenced))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_until_it_is_known_whether_a_broker_is_gone() {
        let (before, after) = fencing();
        let (doubt, doubted) = watch::channel(BTreeSet::from([BrokerId(2)]));
        let departing = Departing::new(doubted);
        let (publish, images) = watched(before.clone());
        let answer = departing.settled(|| images.clone(), before.clone(), counts_on);
        tokio::pin!(answer);
        assert!(futures_poll(answer.as_mut()).await.is_none(), "it may be gone");
        publish.set(after.clone());
        assert!(Arc::ptr_eq(&answer.await, &after), "it is, and others know");

        publish.set(before.clone());
        let answer = departing.settled(|| images.clone(), before.clone(), counts_on);
        tokio::pin!(answer);
        assert!(futures_poll(answer.as_mut()).await.is_none(), "another one may be");
        doubt.send_replace(BTreeSet::new());
        assert!(Arc::ptr_eq(&answer.await, &before), "it is not");

        doubt.send_replace(BTreeSet::from([BrokerId(2)]));
        let answer = departing.settled(|| images.clone(), before.clone(), counts_on).await;
        assert!(Arc::ptr_eq(&answer, &before), "nobody waits for ever");
    }

    async fn futures_poll<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_fenced_broker_is_named_for_a_while() {
        let departing = Departing::new(watch::channel(BTreeSet::new()).1);
        let (before, after) = fencing();
        departing.image_changed(&before, &after);
        let named = || departing.lately_fenced(&after).iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(named(), [BrokerId(2)]);
        tokio::time::advance(NAMED).await;
        assert_eq!(named(), []);
    }
}
