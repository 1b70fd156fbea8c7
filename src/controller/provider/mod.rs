//! `Provider`: checks each provider regularly and reports whether requests may go there.

mod checks;
mod status;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use self::checks::Checks;
use super::{
    Context, Error,
    driver::{self, Reconciler, references},
};
use crate::{
    api::Provider,
    cluster::{self, Changed, Precondition, Watched},
};

struct Providers {
    context: Arc<Context>,
    checks: Checks,
}

/// Runs until `stop`. Where `secrets` are watched, a provider is looked at again as soon as its key changes.
///
/// # Errors
/// When a watch ends that must not.
pub async fn run(
    context: Arc<Context>,
    secrets: Option<Watched<Secret>>,
    stop: CancellationToken,
) -> Result<(), String> {
    if let Some(secrets) = &secrets {
        secrets.ready().await?;
    }
    let watched = context.providers.clone();
    let by_secret = watched.clone();
    let uses = move |secret: &Secret| {
        let providers = by_secret.list(&secret.namespace().unwrap_or_default());
        let named = |provider: &&Arc<Provider>| {
            provider.spec.api_key_secret_ref.as_ref().is_some_and(|key| key.name == secret.name_any())
        };
        providers.iter().filter(named).map(|provider| ObjectRef::from_obj(&**provider)).collect()
    };
    let triggers = secrets.iter().map(|secrets| references(secrets, watched.clone(), uses.clone())).collect();
    let meter = context.meters.of::<Provider>();
    let checks = Checks::new(context.provider_api.clone(), context.provider_keys.clone());
    driver::run(Arc::new(Providers { context, checks }), watched, triggers, meter, stop).await
}

impl Reconciler for Providers {
    type Kind = Provider;

    fn reconcile(self: Arc<Self>, provider: Arc<Provider>) -> BoxFuture<'static, Result<Option<Duration>, Error>> {
        async move {
            if provider.metadata.deletion_timestamp.is_some() {
                return Ok(None);
            }
            let check = self.checks.look(&provider).await;
            let status = status::status(&provider, &check, Timestamp::now());
            if provider.status.as_ref() != Some(&status) {
                let api = cluster::api(&self.context.client, provider.namespace().as_deref());
                cluster::apply_status(&api, &*provider, &status, Precondition::None).await?;
            }
            Ok(Some(self.checks.next(&provider)))
        }
        .boxed()
    }

    /// Its status is what the last check found: no reason for another one.
    fn is_woken_by(change: &Changed<Provider>) -> bool {
        !change.is_of_status_only()
    }

    fn forget(&self, provider: &ObjectRef<Provider>) {
        self.checks.forget(provider);
    }
}
