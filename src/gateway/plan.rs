//! Which targets a request may go to, in their order, and why.

use std::sync::{Arc, atomic::Ordering};

use axum::http::HeaderMap;

use super::{
    counter::{Account, Counter, Trial},
    resolve::Found,
    serving::Serving,
    tally::Tally,
};
use crate::{
    domain::routing::{fails_outright, is_canary_session, is_canary_turn, session_hash},
    routing_table::{Canary, Deployment, Shadow, Target},
};

/// One target of a plan.
#[derive(Debug)]
pub struct Leg<'a> {
    /// What to run.
    pub target: &'a Target,
    /// Why, in one line.
    pub reason: String,
    /// The deployment that it was chosen by, if it was.
    pub deployment: Option<&'a str>,
    /// Where its attempts count; plain tags have no version to count for.
    pub account: Option<Account>,
    /// Its place among the requests that wait for a version which has answered nothing yet.
    pub trial: Option<Trial>,
    /// Where a copy for the deployment's canary counts, which it gets once this one is answered.
    pub copy: Option<Account>,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request, which counts.
    Answer,
    /// Telling what would become of a request: nothing counts.
    Explain,
}

/// The legs for what a name stands for: the next one is used when all nodes of the one before failed.
pub fn plan<'a>(
    namespace: &str,
    found: Found<'a>,
    headers: &HeaderMap,
    serving: &Serving,
    tally: &Tally,
    purpose: Purpose,
) -> Vec<Leg<'a>> {
    match found {
        Found::Tag(target) => {
            let reason = format!("model {}: asked for by name", target.tag);
            vec![Leg { target, reason, deployment: None, account: None, trial: None, copy: None }]
        }
        Found::Deployment(name, deployment) => {
            let session = session(deployment, headers);
            let split = Split { namespace, name, deployment, session, serving, tally, purpose };
            split.legs()
        }
    }
}

struct Split<'a, 't> {
    namespace: &'t str,
    name: &'a str,
    deployment: &'a Deployment,
    /// What the request's session is known by during a rollout.
    session: Option<u64>,
    serving: &'t Serving,
    tally: &'t Tally,
    purpose: Purpose,
}

impl<'a> Split<'a, '_> {
    fn legs(&self) -> Vec<Leg<'a>> {
        let stable = &self.deployment.stable;
        let Some(canary) = &self.deployment.canary else { return vec![self.leg(stable, "stable", "")] };
        if let Some(shadow) = canary.shadow {
            return vec![Leg { copy: self.copy(canary, shadow), ..self.leg(stable, "stable", "") }];
        }
        let by = if self.session.is_some() { ", by session" } else { "" };
        let (version, weight) = (version(&canary.target), canary.weight);
        if !self.is_canary(canary, canary.weight) {
            return vec![self.leg(stable, "stable", &format!(" has {} %{by}", 100 - weight.min(100)))];
        }
        let mut leg = self.leg(&canary.target, "canary", &format!(" has {weight} %{by}"));
        if self.is_braked(&canary.target) {
            return vec![self.leg(stable, "stable", &format!(", canary {version} ({weight} %) fails outright"))];
        }
        if !is_usable(&canary.target) {
            // Where stable has none either, the version is not to blame.
            if self.purpose == Purpose::Answer && is_usable(stable) {
                leg.account.iter().for_each(Account::failed);
            }
            return vec![self.leg(stable, "stable", &format!(", canary {version} ({weight} %) has no ready node"))];
        }
        let Some(trial) = self.trial(&leg) else {
            return vec![self.leg(
                stable,
                "stable",
                &format!(", canary {version} ({weight} %) has answered nothing yet"),
            )];
        };
        leg.trial = trial;
        vec![leg, self.leg(stable, "stable", &format!(", canary {version} ({weight} %) could not answer"))]
    }

    /// Whether the request is one of so many percent that are the canary's.
    fn is_canary(&self, canary: &Canary, percent: u8) -> bool {
        match self.session {
            Some(session) => is_canary_session(session, percent),
            None => {
                let turns = || self.tally.turns(self.namespace, self.name, &self.deployment.rollout_id);
                let turns = self.serving.turns(&canary.target, turns);
                let turn = match self.purpose {
                    Purpose::Answer => turns.fetch_add(1, Ordering::Relaxed),
                    Purpose::Explain => turns.load(Ordering::Relaxed),
                };
                is_canary_turn(turn, percent)
            }
        }
    }

    /// Where the canary's copy of the request counts, if it gets one.
    fn copy(&self, canary: &Canary, shadow: Shadow) -> Option<Account> {
        let target = &canary.target;
        if self.purpose == Purpose::Explain || !self.is_canary(canary, shadow.share) || self.is_braked(target) {
            return None;
        }
        let spent = self.tally.spent(self.namespace, self.name, &self.deployment.rollout_id);
        let is_affordable = target.offer.is_none() || spent.load(Ordering::Relaxed) as f64 <= shadow.budget * 1e6;
        is_affordable.then(|| Account { spent: Some(spent), ..self.account(target) })
    }

    fn account(&self, target: &Target) -> Account {
        Account { counter: self.counter(target), session: self.session, spent: None }
    }

    fn is_braked(&self, canary: &Target) -> bool {
        let failed = |target| self.counter(target).failed_in_a_row();
        fails_outright(failed(canary), failed(&self.deployment.stable))
    }

    /// Leave to send a request to the canary.
    fn trial(&self, leg: &Leg<'_>) -> Option<Option<Trial>> {
        let Some(Account { counter, .. }) = &leg.account else { return Some(None) };
        match self.purpose {
            Purpose::Answer => counter.try_with(),
            Purpose::Explain => counter.may_be_tried().then_some(None),
        }
    }

    fn counter(&self, target: &Target) -> Arc<Counter> {
        let rollout = &self.deployment.rollout_id;
        self.serving.counter(target, || self.tally.counter(self.namespace, self.name, rollout, version(target)))
    }

    fn leg(&self, target: &'a Target, side: &str, why: &str) -> Leg<'a> {
        let version = version(target);
        Leg {
            target,
            reason: format!("deployment {}: {side} {version}{why}", self.name),
            deployment: Some(self.name),
            account: Some(self.account(target)),
            trial: None,
            copy: None,
        }
    }
}

/// What the request's session is known by while a rollout of `deployment` has two sides.
fn session(deployment: &Deployment, headers: &HeaderMap) -> Option<u64> {
    deployment.canary.as_ref()?;
    let value = headers.get(deployment.sticky_header.as_deref()?)?;
    let value = Some(value.as_bytes()).filter(|session| !session.is_empty())?;
    Some(session_hash(&deployment.rollout_id, value))
}

fn version(target: &Target) -> &str {
    target.version.as_deref().unwrap_or(&target.tag)
}

/// Whether any node takes requests for it.
fn is_usable(target: &Target) -> bool {
    target.holders.iter().any(|holder| holder.node.weight > 0 && holder.node.max_concurrent_requests > 0)
}
