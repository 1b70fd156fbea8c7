//! `ApiKey`: says whether a key can be used, when it was used last, and how many gateways share its limits.

mod status;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    Context, Error,
    driver::{self, Reconciler, Refs, references_of_change},
};
use crate::{
    api::ApiKey,
    cluster::{self, Precondition},
    ports::GatewayStats,
};

/// How often the gateways are asked which keys were used.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// How soon it is seen whether there is anything to ask, and anybody who answers.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What the gateways said last; `None` until all of them did.
type Said = Arc<ArcSwapOption<Vec<GatewayStats>>>;

struct Keys {
    context: Arc<Context>,
    said: Said,
}

/// The word by which keys are found: the hash.
pub fn words_of_key(key: &ApiKey) -> Vec<String> {
    vec![key.spec.hash.clone()]
}

/// Runs until `stop`.
///
/// # Errors
/// When a watch ends that must not.
pub async fn run(context: Arc<Context>, stop: CancellationToken) -> Result<(), String> {
    let (keys, twins) = (context.keys.clone(), context.keys.clone());
    let by_twin = references_of_change(&keys, keys.clone(), move |change| {
        let namespace = |key: &ApiKey| key.namespace().unwrap_or_default();
        let same = change.states().flat_map(|key| twins.having(&namespace(key), &key.spec.hash));
        same.map(|twin| ObjectRef::from_obj(&*twin)).collect()
    });
    let said = Said::default();
    let triggers = vec![by_twin, asked(context.clone(), said.clone())];
    context.keys.ready().await?;
    let meter = context.meters.of::<ApiKey>();
    driver::run(Arc::new(Keys { context, said }), keys, triggers, meter, stop).await
}

/// Asks the gateways again and again; every key is looked at after that.
fn asked(context: Arc<Context>, said: Said) -> Refs<ApiKey> {
    let answers = stream::unfold(Duration::ZERO, move |wait| {
        let (context, said) = (context.clone(), said.clone());
        async move {
            sleep(wait).await;
            let keys = context.keys.all();
            if keys.is_empty() {
                return Some((Vec::new(), TRY_AGAIN_AFTER));
            }
            match context.gateways.stats(None).try_collect::<Vec<_>>().await {
                Ok(stats) => said.store(Some(Arc::new(stats))),
                Err(error) => {
                    debug!(%error, "a gateway can't be asked which keys were used");
                    return Some((Vec::new(), TRY_AGAIN_AFTER));
                }
            }
            Some((keys.iter().map(|key| ObjectRef::from_obj(&**key)).collect(), ASK_EVERY))
        }
    });
    answers.flat_map(stream::iter).boxed()
}

impl Reconciler for Keys {
    type Kind = ApiKey;

    fn reconcile(self: Arc<Self>, key: Arc<ApiKey>) -> BoxFuture<'static, Result<Option<Duration>, Error>> {
        async move {
            if key.metadata.deletion_timestamp.is_some() {
                return Ok(None);
            }
            let namespace = key.namespace().unwrap_or_default();
            let twins = self.context.keys.having(&namespace, &key.spec.hash);
            let (said, now) = (self.said.load_full(), Timestamp::now());
            let status = status::status(&key, &twins, said.as_deref().map(Vec::as_slice), now);
            if key.status.as_ref() != Some(&status) {
                let api = cluster::api::<ApiKey>(&self.context.client, Some(&namespace));
                cluster::apply_status(&api, &*key, &status, Precondition::None).await?;
            }
            Ok(status::expires_in(&key, now))
        }
        .boxed()
    }

    fn forget(&self, _: &ObjectRef<ApiKey>) {}
}
