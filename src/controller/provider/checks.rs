//! When providers are asked, and what they said last.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube_runtime::reflector::ObjectRef;
use tokio::time::Instant;

use crate::{
    api::Provider,
    domain::provider::{Endpoint, KeySource, ProviderFault},
    ports::{ProviderApi, ProviderKey, ProviderKeys, ProviderListing},
};

/// So often it is looked whether the key is still the same, and a provider that can't be used is asked again.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Checks are spread by a tenth of the interval, so that those of many providers don't come all at once.
const JITTER: f64 = 0.1;

/// What one look at a provider found.
#[derive(Clone, Debug)]
pub struct Look {
    /// What the provider says.
    pub outcome: Result<ProviderListing, ProviderFault>,
    /// Whether a key was found.
    pub has_key: bool,
}

/// The last check of one provider.
struct Checked {
    endpoint: Endpoint,
    key: Option<ProviderKey>,
    outcome: Result<ProviderListing, ProviderFault>,
    due: Instant,
}

/// The last check of every provider.
pub struct Checks {
    api: Arc<dyn ProviderApi>,
    keys: Arc<dyn ProviderKeys>,
    checked: Mutex<HashMap<ObjectRef<Provider>, Checked>>,
}

impl Checks {
    /// Of no provider yet.
    pub fn new(api: Arc<dyn ProviderApi>, keys: Arc<dyn ProviderKeys>) -> Self {
        Self { api, keys, checked: Mutex::default() }
    }

    /// What is known of a provider: it is asked when a check is due, or the object or its key is another one.
    pub async fn look(&self, provider: &Provider) -> Look {
        let (endpoint, object) = (provider.endpoint(), ObjectRef::from_obj(provider));
        let key = match self.keys.key(&endpoint.namespace, &endpoint.key).await {
            Ok(key) => key,
            Err(why) => {
                self.forget(&object);
                return Look { outcome: Err(ProviderFault::NoKey(why)), has_key: false };
            }
        };
        let has_key = key.is_some() && endpoint.key != KeySource::None;
        if let Some(outcome) = self.still_good(&object, &endpoint, key.as_ref()) {
            return Look { outcome, has_key };
        }
        let outcome = self.api.check(&endpoint).await;
        let interval = provider.spec.check_interval.0;
        let wait = if outcome.is_ok() { spread(interval) } else { interval.min(LOOK_EVERY) };
        let checked = Checked { endpoint, key, outcome: outcome.clone(), due: Instant::now() + wait };
        self.lock().insert(object, checked);
        Look { outcome, has_key }
    }

    fn still_good(
        &self,
        object: &ObjectRef<Provider>,
        endpoint: &Endpoint,
        key: Option<&ProviderKey>,
    ) -> Option<Result<ProviderListing, ProviderFault>> {
        let checked = self.lock();
        let last = checked.get(object)?;
        let is_same = last.endpoint == *endpoint && last.key.as_ref() == key;
        (is_same && Instant::now() < last.due).then(|| last.outcome.clone())
    }

    /// When to look again.
    pub fn next(&self, provider: &Provider) -> Duration {
        let due = self.lock().get(&ObjectRef::from_obj(provider)).map(|last| last.due);
        let until = due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
        until.min(spread(LOOK_EVERY.min(provider.spec.check_interval.0)))
    }

    /// Forgets a provider that is gone.
    pub fn forget(&self, object: &ObjectRef<Provider>) {
        self.lock().remove(object);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectRef<Provider>, Checked>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spread(interval: Duration) -> Duration {
    interval.mul_f64(1.0 + JITTER * (2.0 * rand::random::<f64>() - 1.0))
}
