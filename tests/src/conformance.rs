//! One suite for every [`Driver`], real or in memory. A driver's own test makes the parts and calls [`conforms`].
#![allow(clippy::unwrap_used, dead_code)]

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use drivers::{Driver, Listing, Log, Scope};
use planner::resource::{Kind, Observed, Phase, Resource, ResourceId, Run};

/// What the suite works with. Nothing of it exists at the beginning, and nothing does at the end.
pub(crate) struct Suite<'a> {
    /// The driver to be judged.
    pub(crate) driver: &'a dyn Driver,
    /// The driver of another instance (another key) on the same backend.
    pub(crate) stranger: &'a dyn Driver,
    /// Things of one owner and generation, what is needed before what needs it. Every need is in the list.
    pub(crate) resources: Vec<Resource>,
    /// The same of another owner. They stand beside the others all the time, and nothing may disturb them.
    pub(crate) neighbours: Vec<Resource>,
}

/// Panics at the first rule that the driver breaks.
pub(crate) async fn conforms(suite: &Suite<'_>) {
    assert_ne!(suite.resources[0].id.owner, suite.neighbours[0].id.owner, "neighbours have an owner of their own");
    nothing_at_first(suite).await;
    let (_, before) = tokio::join!(suite.make_all(&suite.resources), suite.make_all(&suite.neighbours));

    twice_is_once(suite).await;
    listed_by_owner(suite).await;
    strangers_do_not_meet(suite).await;
    rest_only_lowers(suite).await;
    suite.remove_all(&suite.resources).await;

    survives_being_dropped(suite).await;
    made_anew_after_removal(suite).await;

    let after = suite.listing(&Scope::All).await;
    for (id, observed) in &before {
        assert_eq!(after.get(id), Some(observed), "{id} of another owner was disturbed");
    }
    suite.remove_all(&suite.neighbours).await;
    assert_eq!(suite.listing(&Scope::All).await, Listing::new(), "something is left at the end");
}

/// Before anything is there: listings are empty, removing and resting are fine.
async fn nothing_at_first(suite: &Suite<'_>) {
    assert_eq!(suite.listing(&Scope::All).await, Listing::new(), "the suite begins with nothing");
    for resource in &suite.resources {
        let id = &resource.id;
        suite.driver.remove(id).await.unwrap_or_else(|e| panic!("removing absent {id}: {e}"));
        suite.driver.rest(id, Run::Stopped).await.unwrap_or_else(|e| panic!("resting absent {id}: {e}"));
    }
    assert_eq!(suite.listing(&Scope::All).await, Listing::new(), "remove or rest of what is absent made something");
}

/// A second ensure finds the first one's work and changes nothing.
async fn twice_is_once(suite: &Suite<'_>) {
    let first = suite.listing(&Scope::All).await;
    suite.make_all(&suite.resources).await;
    assert_eq!(suite.listing(&Scope::All).await, first, "ensuring twice is not the same as once");
}

/// Scope::Owner shows that owner's, all of them, and nothing else.
async fn listed_by_owner(suite: &Suite<'_>) {
    for group in [&suite.resources, &suite.neighbours] {
        let owner = group[0].id.owner.clone();
        let listing = suite.listing(&Scope::Owner(owner.clone())).await;
        let mut wanted: Vec<_> = group.iter().map(|r| &r.id).filter(|id| id.owner == owner).collect();
        wanted.sort();
        assert_eq!(listing.keys().collect::<Vec<_>>(), wanted, "listing of {owner}");
        let all = suite.listing(&Scope::All).await;
        for (id, observed) in &listing {
            assert_eq!(Some(observed), all.get(id), "{id} in its owner's listing and in that of all");
        }
    }
}

/// Another instance on the same backend sees nothing of ours, and cannot remove or stop it.
async fn strangers_do_not_meet(suite: &Suite<'_>) {
    let before = suite.listing(&Scope::All).await;
    let theirs = suite.stranger.inventory(&Scope::All).await.unwrap_or_else(|e| panic!("listing: {e}"));
    assert_eq!(theirs, Listing::new(), "another instance lists things of ours");
    for resource in suite.resources.iter().rev() {
        // Whether it says 'absent' or 'not mine', ours stays.
        let _ = suite.stranger.rest(&resource.id, Run::Stopped).await;
        let _ = suite.stranger.remove(&resource.id).await;
    }
    assert_eq!(suite.listing(&Scope::All).await, before, "another instance touched things of ours");
}

/// `rest` lowers containers and never raises them; only `ensure` does. What is no container is left alone.
async fn rest_only_lowers(suite: &Suite<'_>) {
    for resource in &suite.resources {
        let id = &resource.id;
        let before = suite.observed(id).await;
        if id.kind != Kind::Container {
            let _ = suite.driver.rest(id, Run::Stopped).await;
            assert_eq!(suite.observed(id).await, before, "rest changed {id}");
            continue;
        }
        for (to, seen) in [
            (Run::Running, Run::Running),
            (Run::Paused, Run::Paused),
            (Run::Running, Run::Paused),
            (Run::Stopped, Run::Stopped),
            (Run::Stopped, Run::Stopped),
            (Run::Paused, Run::Stopped),
            (Run::Running, Run::Stopped),
        ] {
            suite.driver.rest(id, to).await.unwrap_or_else(|e| panic!("resting {id} at {to:?}: {e}"));
            assert_eq!(suite.observed(id).await.run, seen, "{id} after rest at {to:?}");
        }
        suite.make(resource).await;
        suite.driver.rest(id, Run::Paused).await.unwrap_or_else(|e| panic!("pausing {id}: {e}"));
        suite.make(resource).await;
    }
}

/// However far an ensure had come when it was dropped: the listing works, and the next ensure completes it;
/// a removal instead clears it.
async fn survives_being_dropped(suite: &Suite<'_>) {
    for resource in &suite.resources {
        let id = &resource.id;
        let mut polls = 1;
        loop {
            let cut = suite.cut(resource, polls).await;
            suite.listing(&Scope::All).await;
            suite.make(resource).await;
            suite.remove(id).await;
            if !cut {
                break;
            }
            suite.cut(resource, polls).await;
            suite.remove(id).await;
            polls = polls * 3 / 2 + 1;
        }
        suite.make(resource).await;
    }
    suite.remove_all(&suite.resources).await;
}

/// Nothing of the first life is in the way of the second.
async fn made_anew_after_removal(suite: &Suite<'_>) {
    suite.make_all(&suite.resources).await;
    suite.remove_all(&suite.resources).await;
}

/// Databases are measured now and then, which changes nothing.
fn unmeasured((id, mut observed): (ResourceId, Observed)) -> (ResourceId, Observed) {
    if id.kind == Kind::Database {
        observed.outputs.bytes = None;
    }
    (id, observed)
}

impl Suite<'_> {
    async fn listing(&self, scope: &Scope) -> Listing {
        let listing = self.driver.inventory(scope).await.unwrap_or_else(|e| panic!("listing {scope:?}: {e}"));
        listing.into_iter().map(unmeasured).collect()
    }

    /// What the listing says of one thing, which must be there.
    async fn observed(&self, id: &ResourceId) -> Observed {
        let mut all = self.listing(&Scope::All).await;
        all.remove(id).unwrap_or_else(|| panic!("{id} is not listed; there are {:?}", all.keys()))
    }

    /// What was last observed of a resource's needs.
    async fn needs(&self, resource: &Resource) -> Listing {
        let mut all = self.listing(&Scope::All).await;
        all.retain(|id, _| resource.needs.contains(id));
        assert_eq!(all.len(), resource.needs.len(), "the needs of {} are not all there", resource.id);
        all
    }

    /// Ensures one thing and judges what ensure and the listing say of it.
    async fn make(&self, resource: &Resource) -> Observed {
        let needs = self.needs(resource).await;
        let id = &resource.id;
        let told =
            self.driver.ensure(resource, &needs, &Log::none()).await.unwrap_or_else(|e| panic!("ensuring {id}: {e}"));
        let (seen, (_, told)) = (self.observed(id).await, unmeasured((id.clone(), told)));
        assert_eq!(told, seen, "{id}: what ensure says and what the listing says");
        assert_eq!(seen.fingerprint, resource.fingerprint, "{id}: fingerprint");
        if id.kind == Kind::Job {
            assert!(matches!(seen.phase, Phase::Exited { code: 0, .. }), "{id}: {:?}", seen.phase);
        } else {
            assert_eq!((seen.phase, seen.run), (Phase::Whole, Run::Running), "{id}");
        }
        let stands_on = |need: &&ResourceId| matches!(need.kind, Kind::Network | Kind::Image);
        if matches!(id.kind, Kind::Job | Kind::Container) {
            for need in resource.needs.iter().filter(stands_on) {
                assert!(seen.uses.contains(need), "{id} stands on {need} and does not say so: {:?}", seen.uses);
            }
        }
        for used in &seen.uses {
            assert!(resource.needs.contains(used), "{id} uses {used}, which it does not need");
        }
        seen
    }

    async fn make_all(&self, resources: &[Resource]) -> Listing {
        let mut made = Listing::new();
        for resource in resources {
            made.insert(resource.id.clone(), self.make(resource).await);
        }
        made
    }

    /// Starts an ensure and drops it after so many polls. False if it had ended by then.
    async fn cut(&self, resource: &Resource, polls: usize) -> bool {
        let needs = self.needs(resource).await;
        let log = Log::none();
        let ensure = pin!(self.driver.ensure(resource, &needs, &log));
        match (Cut { future: ensure, left: polls }).await {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(failure)) => panic!("ensuring {}: {failure}", resource.id),
        }
    }

    /// Removes one thing and waits until the listing agrees.
    async fn remove(&self, id: &ResourceId) {
        self.driver.remove(id).await.unwrap_or_else(|e| panic!("removing {id}: {e}"));
        let since = Instant::now();
        while let Some(observed) = self.listing(&Scope::All).await.get(id) {
            assert_eq!(observed.phase, Phase::Removing, "{id} is still there after its removal");
            assert!(since.elapsed() < Duration::from_secs(60), "{id} is still there a minute after its removal");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.driver.remove(id).await.unwrap_or_else(|e| panic!("removing {id} once more: {e}"));
    }

    async fn remove_all(&self, resources: &[Resource]) {
        for resource in resources.iter().rev() {
            self.remove(&resource.id).await;
        }
    }
}

/// A future that is given up after so many polls: a point in its work, not a point in time.
pub(crate) struct Cut<'a, F> {
    pub(crate) future: Pin<&'a mut F>,
    pub(crate) left: usize,
}

impl<F: Future> Future for Cut<'_, F> {
    type Output = Option<F::Output>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match self.future.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}
