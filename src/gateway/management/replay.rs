//! A run once more: the same model with the same parameters.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Path,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;

use super::Managed;
use crate::{
    domain::run_record::Resolved,
    gateway::{
        Gateway,
        ask::Ask,
        balance::Wish,
        dispatch::Dispatch,
        failure::Failure,
        plan::Leg,
        resolve::resolve,
        routes::{Route, parse, read_body, respond, route},
        run::Run,
        spans::Trace,
    },
    ports::RunRecord,
    routing_table::{Holder, Namespace, Node, Target},
};

/// Answers as the run was answered, in the same format. The request is the one that was kept, or the body of this one.
pub async fn replay(
    managed: Managed,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let gateway = &managed.gateway;
    let visit = managed.caller.begin()?;
    let body = read_body(body, &headers, gateway.settings()).await?;
    let record = managed.find(&id).await?;
    if managed.caller.patterns().is_some() {
        // What the key may be used for can have changed since.
        resolve(gateway.table().namespace(&record.namespace), &record.requested, &managed.caller)?;
    }
    let again = Again::new(gateway, &record, body)?;
    gateway.recorder().check()?;
    let under_way = gateway.meters().begin(again.route.path);
    let trace = Trace::begin(gateway.tracer(), &headers);
    let mut run = Run::start(gateway.recorder(), again.route.path.name(), &record.namespace, trace);
    run.called_by(visit);
    run.asked(&again.ask, &again.request);
    run.note(|replay| replay.replay_of = Some(record.id));
    let reason = format!("replay of run {id}");
    let legs = [Leg::to(&again.target, reason)];
    let serving = gateway.serving();
    let ready = Dispatch::new(gateway, &serving, &again.ask, Wish::default(), &mut run).run(&legs).await;
    Ok(under_way.answered(respond(ready, run, again.route.api).await))
}

/// What a run needs to be repeated.
struct Again {
    route: Route,
    request: Bytes,
    ask: Ask,
    target: Target,
}

impl Again {
    fn new(gateway: &Gateway, record: &RunRecord, body: Bytes) -> Result<Self, Failure> {
        let kept = || record.capture.as_ref()?.request.clone().map(Bytes::from);
        let request = Some(body).filter(|body| !body.is_empty()).or_else(kept).ok_or_else(|| {
            conflict("its request was not kept: send it as the body, or have requests kept by records-capture")
        })?;
        let route = route(&record.path).ok_or_else(|| conflict(format!("nothing answers {} any more", record.path)))?;
        let mut ask = (route.read)(parse(&request)?).map_err(Failure::bad_request)?;
        let parameters = record.parameters.iter().map(|(name, effective)| (name.clone(), effective.value.clone()));
        ask.pin(parameters, record.keep_alive.as_ref().map(|keep_alive| &keep_alive.value));
        ask.stream = record.stream;
        let target = target(gateway.table().namespace(&record.namespace), record)?;
        Ok(Self { route, request, ask, target })
    }
}

/// What answered the run, on the nodes that have it now.
fn target(namespace: &Namespace, record: &RunRecord) -> Result<Target, Failure> {
    let resolved = record.resolved.as_ref().ok_or_else(|| conflict("no model was found for it"))?;
    let has_digest = |holder: &&Holder| *holder.digest == *resolved.digest;
    // A provider's model is known by its name alone.
    let is_same = |target: &Target| !resolved.digest.is_empty() || *target.tag == *resolved.model;
    let is_version =
        |target: &Target| target.version.is_none() || target.version.as_deref() == resolved.version.as_deref();
    let fits = |target: &&Target| {
        is_version(target)
            && is_same(target)
            && target.holders.iter().any(|holder| has_digest(&holder))
            && prompt_fits(target, record)
    };
    let found = namespace.targets().find(fits).ok_or_else(|| gone(resolved, record))?;
    let holders = found.holders.iter().filter(has_digest).map(|holder| Holder {
        // Window and time in memory are the run's, whatever is the node's by now.
        node: Arc::new(Node { context_length: None, keep_alive: None, ..(*holder.node).clone() }),
        ..holder.clone()
    });
    Ok(Target {
        tag: resolved.model.to_string(),
        version: resolved.version.as_deref().map(str::to_owned),
        digest: resolved.digest.to_string(),
        parameters: Default::default(),
        defaults: Default::default(),
        system_prompt: found.system_prompt.clone().filter(|_| record.system_prompt.is_some()),
        holders: holders.collect(),
        ..found.clone()
    })
}

/// Whether a target gives the model the system prompt that the run had; one that the request brought is in the request.
fn prompt_fits(target: &Target, record: &RunRecord) -> bool {
    record.system_prompt.is_none() || target.prompt_edition == record.system_prompt
}

fn gone(resolved: &Resolved, record: &RunRecord) -> Failure {
    let Resolved { model, digest, version, .. } = resolved;
    match (&record.system_prompt, version) {
        (Some(prompt), Some(version)) => conflict(format!(
            "no ready node serves version {version} of {model} with digest {digest} and system prompt {}",
            prompt.version
        )),
        _ if digest.is_empty() => conflict(format!("{model} can't be asked for now")),
        _ => conflict(format!("no ready node has {model} with digest {digest}")),
    }
}

fn conflict(why: impl std::fmt::Display) -> Failure {
    Failure::new(StatusCode::CONFLICT, "not_replayable", format!("the run can't be repeated: {why}"))
}
