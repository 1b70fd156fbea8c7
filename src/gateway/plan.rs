//! Which targets a request may go to, in their order, and why.

use std::sync::{Arc, atomic::Ordering};

use axum::http::{HeaderMap, StatusCode};

use super::{
    Gateway,
    callers::Caller,
    counter::{Account, Counter, Trial},
    failure::Failure,
    resolve::{Found, Routed},
    serving::Serving,
    session::Message,
    tally::Tally,
    task::Task,
    walk::Route,
};
use crate::{
    domain::{
        analysis::micros,
        directory::Place,
        model_db::Capabilities,
        routing::{fails_outright, is_canary_session, is_canary_turn, session_hash},
    },
    routing_table::{Canary, Deployment, Namespace, Shadow, Target},
};

/// One target of a plan.
#[derive(Debug)]
pub struct Leg<'a> {
    /// What to run.
    pub target: &'a Target,
    /// Why, in one line, but for the way by which it was found.
    why: String,
    /// The deployment that it was chosen by, if it was.
    pub deployment: Option<&'a str>,
    /// Where its attempts count; plain tags have no version to count for.
    pub account: Option<Account>,
    /// Its place among the requests that wait for a version which has answered nothing yet.
    pub trial: Option<Trial>,
    /// Where a copy for the deployment's canary counts, which it gets once this one is answered.
    pub copy: Option<Account>,
    /// By which way of the directory it was found, if by any.
    pub route: Option<Box<Route<'a>>>,
}

impl<'a> Leg<'a> {
    /// A leg to a target that counts for no version.
    pub fn to(target: &'a Target, why: String) -> Self {
        Self { target, why, deployment: None, account: None, trial: None, copy: None, route: None }
    }

    /// Why, in one line.
    pub fn reason(&self) -> String {
        let Some(route) = &self.route else { return self.why.clone() };
        let mut told = route.reason();
        if !self.why.is_empty() {
            told.push_str("; ");
            told.push_str(&self.why);
        }
        told
    }

    /// What tells this worker's model, with its parameters and policy, from all others; nothing where no worker asks.
    pub fn fingerprint(&self) -> Option<String> {
        let route = self.route.as_ref()?;
        Some(route.worker()?.fingerprint(route.identity(), route.policy?))
    }
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request, which counts.
    Answer,
    /// Telling what would become of a request: nothing counts.
    Explain,
}

/// What a plan is made with.
#[derive(Clone, Copy)]
pub struct Planner<'t> {
    /// What it remembers.
    pub gateway: &'t Gateway,
    /// The table as this gateway serves it.
    pub serving: &'t Serving,
    /// The request's headers.
    pub headers: &'t HeaderMap,
    /// What it says of the worker that it is for.
    pub message: &'t Message,
    /// Who sent it.
    pub caller: &'t Caller,
    /// What is to be done.
    pub task: Task,
    /// What the plan is for.
    pub purpose: Purpose,
}

impl<'t> Planner<'t> {
    /// The legs for what a name stands for: the next one is used when all nodes of the one before failed. `needs` says what
    /// the request needs of a model, where there is a choice.
    ///
    /// # Errors
    /// That there is nothing to call: every candidate, and what it lacks.
    pub fn legs<'a>(
        &self,
        offers: &'a Namespace,
        found: Found<'a>,
        needs: impl FnOnce() -> Capabilities,
    ) -> Result<Vec<Leg<'a>>, Failure> {
        match found {
            Found::Tag(target) => {
                let reason = format!("model {}: asked for by name", target.tag);
                Ok(vec![Leg::to(target, reason)])
            }
            Found::Deployment(name, deployment) => Ok(self.split(name, deployment)),
            Found::Routed(routed) => self.routed(offers, routed, needs()),
        }
    }

    fn split<'a>(&self, name: &'a str, deployment: &'a Deployment) -> Vec<Leg<'a>> {
        let Self { gateway, serving, headers, purpose, .. } = *self;
        let (namespace, tally) = (gateway.settings().namespace.as_str(), gateway.tally());
        let session = session(deployment, headers);
        Split { namespace, name, deployment, session, serving, tally, purpose }.legs()
    }

    fn routed<'a>(
        &self,
        offers: &'a Namespace,
        routed: Routed<'a>,
        needs: Capabilities,
    ) -> Result<Vec<Leg<'a>>, Failure> {
        let worker = routed.worker();
        let needs = worker.map_or(needs, |worker| needs.and(worker.floor));
        let models = self.gateway.meters().models();
        let prefer = |profile: &'a _| self.gateway.preferences().of(self.task, profile, offers, models);
        let pointer = routed.asked(self.message)?;
        let ways = routed.directory.ways(&pointer, needs, prefer).map_err(|none| {
            // Who may use some models only isn't told of others.
            let told = if self.caller.patterns().is_none() { none.to_string() } else { none.what };
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "no_target", told)
        })?;
        let policy = worker.map(|worker| self.message.policy.unwrap_or(worker.resolution.policy));
        let mut legs = Vec::with_capacity(ways.len());
        for mut way in ways {
            way.worker = way.worker.or(worker);
            let mut found = match &way.model.place {
                Place::Deployment(name) => match offers.deployments.get_key_value(name) {
                    Some((name, deployment)) => self.split(name, deployment),
                    None => continue,
                },
                place @ (Place::Tag(_) | Place::Offer { .. }) => {
                    offers.target(place).map(|target| Leg::to(target, String::new())).into_iter().collect()
                }
            };
            for leg in &mut found {
                leg.route = Some(Box::new(Route::of(&way, policy)));
            }
            legs.append(&mut found);
        }
        Ok(legs)
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
        if !canary.target.is_usable() {
            // Where stable has none either, the version is not to blame.
            if self.purpose == Purpose::Answer && stable.is_usable() {
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
        let is_affordable = target.offer.is_none() || spent.load(Ordering::Relaxed) <= micros(shadow.budget);
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
            why: format!("deployment {}: {side} {version}{why}", self.name),
            deployment: Some(self.name),
            account: Some(self.account(target)),
            trial: None,
            copy: None,
            route: None,
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
