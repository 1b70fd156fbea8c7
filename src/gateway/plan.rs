//! Which targets a request may go to, in their order, and why.

use std::sync::{Arc, atomic::Ordering};

use axum::http::HeaderMap;

use super::{
    resolve::Found,
    serving::Serving,
    tally::{Counter, Tally, Trial},
};
use crate::{
    domain::routing::{fails_outright, is_canary_session, is_canary_turn, session_hash},
    routing_table::{Canary, Deployment, Target},
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
    pub counter: Option<Arc<Counter>>,
    /// Its place among the requests that wait for a version which has answered nothing yet.
    pub trial: Option<Trial>,
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
            vec![Leg { target, reason, deployment: None, counter: None, trial: None }]
        }
        Found::Deployment(name, deployment) => {
            let split = Split { namespace, name, deployment, serving, tally, purpose };
            split.legs(headers)
        }
    }
}

struct Split<'a, 't> {
    namespace: &'t str,
    name: &'a str,
    deployment: &'a Deployment,
    serving: &'t Serving,
    tally: &'t Tally,
    purpose: Purpose,
}

impl<'a> Split<'a, '_> {
    fn legs(&self, headers: &HeaderMap) -> Vec<Leg<'a>> {
        let stable = &self.deployment.stable;
        let Some(canary) = &self.deployment.canary else { return vec![self.leg(stable, "stable", "")] };
        let session = self.session(headers);
        let by = if session.is_some() { ", by session" } else { "" };
        let (version, weight) = (version(&canary.target), canary.weight);
        if !self.is_canary(canary, session) {
            return vec![self.leg(stable, "stable", &format!(" has {} %{by}", 100 - weight.min(100)))];
        }
        let mut leg = self.leg(&canary.target, "canary", &format!(" has {weight} %{by}"));
        if self.is_braked(&canary.target) {
            return vec![self.leg(stable, "stable", &format!(", canary {version} ({weight} %) fails outright"))];
        }
        if !is_usable(&canary.target) {
            // Where stable has none either, the version is not to blame.
            if self.purpose == Purpose::Answer && is_usable(stable) {
                leg.counter.iter().for_each(|counter| counter.failed());
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

    fn is_canary(&self, canary: &Canary, session: Option<&[u8]>) -> bool {
        let rollout = &self.deployment.rollout_id;
        match session {
            Some(session) => is_canary_session(session_hash(rollout, session), canary.weight),
            None => {
                let turns = || self.tally.turns(self.namespace, self.name, rollout);
                let turns = self.serving.turns(&canary.target, turns);
                let turn = match self.purpose {
                    Purpose::Answer => turns.fetch_add(1, Ordering::Relaxed),
                    Purpose::Explain => turns.load(Ordering::Relaxed),
                };
                is_canary_turn(turn, canary.weight)
            }
        }
    }

    fn is_braked(&self, canary: &Target) -> bool {
        let failed = |target| self.counter(target).failed_in_a_row();
        fails_outright(failed(canary), failed(&self.deployment.stable))
    }

    /// Leave to send a request to the canary.
    fn trial(&self, leg: &Leg<'_>) -> Option<Option<Trial>> {
        let Some(counter) = &leg.counter else { return Some(None) };
        match self.purpose {
            Purpose::Answer => counter.try_with(),
            Purpose::Explain => counter.may_be_tried().then_some(None),
        }
    }

    fn counter(&self, target: &Target) -> Arc<Counter> {
        let rollout = &self.deployment.rollout_id;
        self.serving.counter(target, || self.tally.counter(self.namespace, self.name, rollout, version(target)))
    }

    fn session<'h>(&self, headers: &'h HeaderMap) -> Option<&'h [u8]> {
        let value = headers.get(self.deployment.sticky_header.as_deref()?)?;
        Some(value.as_bytes()).filter(|session| !session.is_empty())
    }

    fn leg(&self, target: &'a Target, side: &str, why: &str) -> Leg<'a> {
        let version = version(target);
        Leg {
            target,
            reason: format!("deployment {}: {side} {version}{why}", self.name),
            deployment: Some(self.name),
            counter: Some(self.counter(target)),
            trial: None,
        }
    }
}

fn version(target: &Target) -> &str {
    target.version.as_deref().unwrap_or(&target.tag)
}

/// Whether any node takes requests for it.
fn is_usable(target: &Target) -> bool {
    target.holders.iter().any(|holder| holder.node.weight > 0 && holder.node.max_concurrent_requests > 0)
}
