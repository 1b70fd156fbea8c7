//! `ModelCatalog`, `RoutingProfile`, `FallbackChain` and `Worker`: says what each of them comes to. All are worked out
//! together, by the function that also makes the gateways' tables, whenever anything changes that they depend on; each
//! object's status is then read off.

mod catalog;
mod chain;
mod profile;
mod worker;

use std::{marker::PhantomData, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use jiff::Timestamp;
use kube::{ResourceExt, core::DeserializeGuard};
use kube_runtime::reflector::ObjectRef;
use serde::Serialize;
use serde_json::Value;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Context, Error,
    driver::{self, Reconciler, Refs},
};
use crate::{
    api::{FallbackChain, HasConditions, ModelCatalog, RoutingProfile, Worker},
    cluster::{self, Kind, Precondition, Watched},
    domain::{
        conditions::Finding,
        directory::Directory,
        reference::{self, Reference},
    },
    routing_table::{
        RoutingTable,
        compile::{Objects, compile},
        directory::{Conflicts, catalogue},
    },
    supervisor::Supervisor,
};

/// So many entries a list in a status has.
const LISTED: usize = 50;
/// So long a burst of changes is waited for: in a fleet under way, all names are worked out five times a second at most.
const SETTLE: Duration = Duration::from_millis(200);

/// What all names come to.
#[derive(Default)]
struct Names {
    /// By namespace.
    table: RoutingTable,
    /// What of each catalogue has no effect.
    conflicts: Conflicts,
    /// The objects that they were worked out from.
    objects: Objects,
}

impl Names {
    fn of(objects: Objects) -> Self {
        let mut spaces: Vec<String> = objects.catalogs.iter().filter_map(|object| object.namespace()).collect();
        spaces.dedup();
        let conflicts = spaces.iter().flat_map(|space| catalogue(&objects.catalogs, space).1).collect();
        let is_used = !(objects.profiles.is_empty() && objects.chains.is_empty() && objects.workers.is_empty());
        let table = if is_used { compile(&objects, Timestamp::UNIX_EPOCH) } else { RoutingTable::default() };
        Self { table, conflicts, objects }
    }

    /// Whether they were worked out from an object as it is now, with its spec and its commands.
    fn know<K: Named>(&self, object: &K) -> bool {
        fn key<K: Kind>(object: &K) -> (&Option<String>, &Option<String>) {
            (&object.meta().namespace, &object.meta().name)
        }
        let all = K::among(&self.objects);
        let found = all.binary_search_by(|other| key(&**other).cmp(&key(object))).ok().map(|at| all[at].meta());
        found.is_some_and(|known| {
            let meta = object.meta();
            known.uid == meta.uid && known.generation == meta.generation && known.annotations == meta.annotations
        })
    }

    fn directory(&self, namespace: &str) -> &Directory<Value> {
        &self.table.namespace(namespace).directory
    }
}

/// What they came to last; `None` until everything was read.
type Latest = watch::Receiver<Option<Arc<Names>>>;

/// A kind whose objects come to something by the directory.
trait Named: Kind + HasConditions {
    /// What people see of it.
    type Status: Serialize + PartialEq + Send + Sync;

    /// The objects.
    fn watched(context: &Context) -> &Watched<Self>;

    /// Those among others, by namespace and name.
    fn among(objects: &Objects) -> &[Arc<Self>];

    /// What is seen now.
    fn seen(&self) -> Option<&Self::Status>;

    /// What is to be seen.
    fn status(&self, names: &Names, now: Timestamp) -> Self::Status;
}

/// Hands the reconcilers to the supervisor, and what keeps the names current.
pub fn start(supervisor: &mut Supervisor, context: &Arc<Context>) {
    let (sender, latest) = watch::channel(None);
    let stop = supervisor.stop_token();
    supervisor.service("names", keep(context.clone(), sender, stop.clone()));
    supervisor.service("catalog controller", run::<ModelCatalog>(context.clone(), latest.clone(), stop.clone()));
    supervisor.service("profile controller", run::<RoutingProfile>(context.clone(), latest.clone(), stop.clone()));
    supervisor.service("chain controller", run::<FallbackChain>(context.clone(), latest.clone(), stop.clone()));
    supervisor.service("worker controller", run::<Worker>(context.clone(), latest, stop));
}

/// Works all names out anew after each burst of changes.
async fn keep(
    context: Arc<Context>,
    sender: watch::Sender<Option<Arc<Names>>>,
    stop: CancellationToken,
) -> Result<(), String> {
    let mut changes = context.changes_of_names();
    context.ready().await?;
    while let Some(change) = stop.run_until_cancelled(changes.next()).await {
        change.ok_or("the watches ended")?;
        sleep(SETTLE).await;
        while let Some(Some(())) = changes.next().now_or_never() {}
        sender.send_replace(Some(Arc::new(Names::of(Objects::but_keys(&context)))));
    }
    Ok(())
}

struct OfKind<K> {
    context: Arc<Context>,
    latest: Latest,
    kind: PhantomData<fn() -> K>,
}

async fn run<K: Named>(context: Arc<Context>, latest: Latest, stop: CancellationToken) -> Result<(), String>
where
    DeserializeGuard<K>: Kind,
{
    let watched = K::watched(&context).clone();
    let (all, changes) = (watched.clone(), latest.clone());
    let renewed = stream::unfold((all, changes), |(all, mut changes)| async move {
        changes.changed().await.ok()?;
        let objects: Vec<_> = all.all().iter().map(|object| ObjectRef::from_obj(&**object)).collect();
        Some((stream::iter(objects), (all, changes)))
    });
    let triggers: Vec<Refs<K>> = vec![renewed.flatten().boxed()];
    let meter = context.meters.of::<K>();
    watched.ready().await?;
    driver::run(Arc::new(OfKind { context, latest, kind: PhantomData::<fn() -> K> }), watched, triggers, meter, stop)
        .await
}

impl<K: Named> Reconciler for OfKind<K> {
    type Kind = K;

    fn reconcile(self: Arc<Self>, object: Arc<K>) -> BoxFuture<'static, Result<Option<Duration>, Error>> {
        async move {
            let names = self.latest.borrow().clone();
            let (Some(names), None) = (names, &object.meta().deletion_timestamp) else { return Ok(None) };
            if !names.know(&*object) {
                // They are worked out anew by now, and wake it again.
                return Ok(None);
            }
            let status = object.status(&names, Timestamp::now());
            if object.seen() != Some(&status) {
                let api = cluster::api::<K>(&self.context.client, object.namespace().as_deref());
                cluster::apply_status(&api, &*object, &status, Precondition::None).await?;
            }
            Ok(None)
        }
        .boxed()
    }

    fn forget(&self, _: &ObjectRef<K>) {}
}

/// That an older object of another kind has the bare name.
pub(super) fn name_clash(kind: reference::Kind, name: &str, owner: reference::Kind) -> Finding {
    let own = Reference::Object(kind, name);
    let message = format!("a {owner} of this name is older and has the bare name: write {own}");
    Finding::new("NameClash", true, "NameTaken", message)
}

fn clash(directory: &Directory<Value>, kind: reference::Kind, name: &str) -> Option<Finding> {
    directory.clash(kind, name).map(|owner| name_clash(kind, name, owner))
}

fn space<K: ResourceExt>(object: &K) -> String {
    object.namespace().unwrap_or_default()
}
