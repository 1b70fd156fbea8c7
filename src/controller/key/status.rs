//! What people see of a key: pure.

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use kube::ResourceExt;

use crate::{
    api::{ApiKey, ApiKeyStatus, HasConditions},
    domain::conditions::{self, Finding, READY, STALLED},
    ports::GatewayStats,
};

/// The longest wait for a key's end; after it the clock is looked at again.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The status of a key that shares its hash with `twins`, itself among them, by what the gateways said, if they did.
pub fn status(key: &ApiKey, twins: &[Arc<ApiKey>], said: Option<&[GatewayStats]>, now: Timestamp) -> ApiKeyStatus {
    let namespace = key.namespace().unwrap_or_default();
    let earlier = key.status.as_ref();
    let serving = said.iter().flat_map(|said| said.iter()).filter(|stats| stats.namespace == namespace);
    let gateways = u32::try_from(serving.clone().count()).ok().filter(|count| *count > 0);
    let used = serving.flat_map(|stats| &stats.keys).filter(|stats| stats.name == key.name_any());
    let used = used.map(|stats| day(stats.last_used)).max();
    ApiKeyStatus {
        observed_generation: key.metadata.generation,
        conditions: conditions::merge(key.conditions(), findings(key, twins, now), key.metadata.generation, now),
        last_used_on: used.max(earlier.and_then(|status| status.last_used_on)),
        gateways: gateways.or(earlier.and_then(|status| status.gateways)),
    }
}

/// How long until a key ends; `None` when it doesn't, or has.
pub fn expires_in(key: &ApiKey, now: Timestamp) -> Option<Duration> {
    let end = key.spec.expires_at.filter(|end| *end > now)?;
    let wait = Duration::try_from(end.duration_since(now)).unwrap_or(LONGEST_WAIT);
    Some(wait.min(LONGEST_WAIT))
}

fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

fn findings(key: &ApiKey, twins: &[Arc<ApiKey>], now: Timestamp) -> Vec<Finding> {
    match fault(key, twins, now) {
        None => {
            let end = key.spec.expires_at.map_or_else(|| "for ever".into(), |end| format!("until {end}"));
            vec![Finding::new(READY, true, "Active", format!("it can be used {end}"))]
        }
        Some((reason, message)) => {
            vec![Finding::new(READY, false, reason, message.clone()), Finding::new(STALLED, true, reason, message)]
        }
    }
}

/// Why a key can't be used, and what to do.
fn fault(key: &ApiKey, twins: &[Arc<ApiKey>], now: Timestamp) -> Option<(&'static str, String)> {
    if let Err(error) = key.parsed() {
        return Some(("InvalidSpec", error));
    }
    let older = twins.iter().filter(|twin| twin.metadata.deletion_timestamp.is_none());
    if let Some(older) = older.filter(|twin| twin.seniority() < key.seniority()).min_by_key(|twin| twin.seniority()) {
        let message = format!("ApiKey {} has this hash already: delete one of the two", older.name_any());
        return Some(("HashTaken", message));
    }
    if key.spec.disabled {
        return Some(("Disabled", "spec.disabled is true: nobody can use it".into()));
    }
    let end = key.spec.expires_at.filter(|end| *end <= now)?;
    Some(("Expired", format!("it could be used until {end}: delete it, or set a later spec.expiresAt")))
}
