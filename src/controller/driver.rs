//! Runs a reconciler over every object of its kind: which objects, when, how many at once, and after which wait a
//! failed one comes back.

use std::{
    collections::HashMap,
    fmt::Debug,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream};
use kube_runtime::{
    Config, applier,
    controller::{self, Action},
    reflector::ObjectRef,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Error,
    meters::{Meter, Outcome},
};
use crate::{
    cluster::{Change, Changed, Kind, Watched},
    domain::backoff,
};

const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Short enough that an outage of the API is not felt long after its end.
const LAST_RETRY: Duration = Duration::from_secs(30);
const AFTER_CONFLICT: Duration = Duration::from_millis(50);

/// References to objects of one kind.
pub type Refs<K> = Pin<Box<dyn Stream<Item = ObjectRef<K>> + Send>>;

/// What a kind's reconciler is to the driver.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Kind: Kind;

    /// How many objects are worked on at once; 0: all of them.
    const AT_ONCE: u16 = 64;

    /// Makes the world agree with one object; says when to look again if nothing happens before.
    fn reconcile(self: Arc<Self>, object: Arc<Self::Kind>) -> BoxFuture<'static, Result<Option<Duration>, Error>>;

    /// Whether a change of the object itself is a reason to look at it.
    fn is_woken_by(_: &Changed<Self::Kind>) -> bool {
        true
    }

    /// Forgets an object that is gone.
    fn forget(&self, object: &ObjectRef<Self::Kind>);
}

/// Runs until `stop`.
///
/// # Errors
/// When a stream ends that must not.
pub async fn run<R: Reconciler>(
    reconciler: Arc<R>,
    watched: Watched<R::Kind>,
    triggers: Vec<Refs<R::Kind>>,
    meter: Meter,
    stop: CancellationToken,
) -> Result<(), String> {
    let own = references_of_change(&watched, watched.clone(), |change| {
        let object = change.states().last().filter(|_| R::is_woken_by(change));
        object.map(|object| ObjectRef::from_obj(&**object)).into_iter().collect()
    });
    let queue = stream::select_all(triggers.into_iter().chain([own])).take_until(stop.clone().cancelled_owned());
    let retries = Arc::new(Retries::<R::Kind>::default());
    let work = Arc::new(Work { reconciler, retries, meter });
    let mut results = applier(
        |object, work: Arc<Work<R>>| work.one(object).boxed(),
        |object, error, work: Arc<Work<R>>| work.after(&object, error),
        work.clone(),
        watched.store(),
        queue.map(Ok::<_, std::convert::Infallible>),
        Config::default().concurrency(R::AT_ONCE),
    )
    .boxed();
    while let Some(result) = results.next().await {
        if let Err(controller::Error::ObjectNotFound(gone)) = result {
            let gone = ObjectRef::<R::Kind>::new(&gone.name).within(gone.namespace.as_deref().unwrap_or_default());
            work.retries.clear(&gone);
            work.reconciler.forget(&gone);
        }
    }
    if stop.is_cancelled() { Ok(()) } else { Err("the queue ended".into()) }
}

/// Which objects of kind `K` an object of kind `O` concerns, when it changed; all of them when too much changed at once.
pub fn references<K: Kind, O: Kind>(
    changed: &Watched<O>,
    all: Watched<K>,
    pick: impl Fn(&O) -> Vec<ObjectRef<K>> + Send + Sync + 'static,
) -> Refs<K> {
    references_of_change(changed, all, move |change| change.states().last().map(|o| pick(o)).unwrap_or_default())
}

/// The same by what the change was.
pub fn references_of_change<K: Kind, O: Kind>(
    changed: &Watched<O>,
    all: Watched<K>,
    pick: impl Fn(&Changed<O>) -> Vec<ObjectRef<K>> + Send + Sync + 'static,
) -> Refs<K> {
    let concerned = move |change| match change {
        Change::One(change) => pick(&change),
        Change::Many => all.all().iter().map(|object| ObjectRef::from_obj(&**object)).collect(),
    };
    changed.changes().flat_map(move |change| stream::iter(concerned(change))).boxed()
}

/// What a reconciler works with and how often it failed.
struct Work<R: Reconciler> {
    reconciler: Arc<R>,
    retries: Arc<Retries<R::Kind>>,
    meter: Meter,
}

impl<R: Reconciler> Work<R> {
    async fn one(self: Arc<Self>, object: Arc<R::Kind>) -> Result<Action, Error> {
        let key = ObjectRef::from_obj(&*object);
        let began = Instant::now();
        let next = self.reconciler.clone().reconcile(object).await;
        let outcome = match &next {
            Ok(_) => Outcome::Done,
            Err(error) if error.is_conflict() || error.is_gone() => Outcome::Overtaken,
            Err(_) => Outcome::Failed,
        };
        self.meter.count(outcome, began.elapsed());
        let next = next?;
        self.retries.clear(&key);
        Ok(next.map_or_else(Action::await_change, Action::requeue))
    }

    fn after(&self, object: &R::Kind, error: &Error) -> Action {
        let key = ObjectRef::from_obj(object);
        if error.is_conflict() {
            return Action::requeue(AFTER_CONFLICT);
        }
        if error.is_gone() {
            debug!(object = %key, "gone meanwhile");
            return Action::await_change();
        }
        let failures = self.retries.count(&key);
        let wait = backoff::delay(failures, FIRST_RETRY, LAST_RETRY, rand::random());
        warn!(object = %key, %error, failures, ?wait, "reconciling failed and is tried again");
        Action::requeue(wait)
    }
}

/// How often each object failed in a row.
struct Retries<K: Kind>(Mutex<HashMap<ObjectRef<K>, u32>>);

impl<K: Kind> Default for Retries<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Kind + Debug> Retries<K> {
    fn count(&self, key: &ObjectRef<K>) -> u32 {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.clone()).or_default();
        *count += 1;
        *count
    }

    fn clear(&self, key: &ObjectRef<K>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
