//! `POST /drover/v1/explain`: what would become of a request, and why. It takes the way of a request up to the point
//! where a node would be asked; nothing is called, nothing counts, no place is taken.

mod nodes;
mod prompt;
pub mod view;

use std::borrow::Cow;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};

use self::view::{Context, Explanation, Named, Share, Step};
use super::{
    Gateway,
    api::Api,
    ask::Ask,
    attempt::may_truncate,
    balance::Outlook,
    callers::Caller,
    context,
    failure::Failure,
    faults::Faults,
    fields::Fields,
    plan::{Leg, Planner, Purpose},
    resolve::Found,
    routes::{Route, find, parse, read_body, route, routes},
    session::Message,
    walk::Walk,
    wish::wish,
};
use crate::{
    domain::{
        params::{Source, widened},
        run_record::{Effective, Resolved},
    },
    routing_table::{Deployment, Namespace},
};

/// The path of requests that don't say which one they would be sent to.
const USUAL_PATH: &str = "/api/chat";

/// Explains the request in the body, whose format is that of the path which its field `path` names.
pub async fn explain(State(gateway): State<Gateway>, caller: Caller, headers: HeaderMap, body: Body) -> Response {
    let (route, mut fields) = match read(&gateway, &headers, body).await {
        Ok(read) => read,
        Err(failure) => return failure.render(Api::Ollama),
    };
    let message = match Message::take(&mut fields, &headers) {
        Ok(message) => message,
        Err(failure) => return failure.render(route.api),
    };
    match explanation(&gateway, route, &caller, (&headers, &message), fields) {
        Ok(explanation) => Json(explanation).into_response(),
        Err(failure) => failure.render(route.api),
    }
}

async fn read(gateway: &Gateway, headers: &HeaderMap, body: Body) -> Result<(Route, Fields), Failure> {
    let mut fields = parse(&read_body(body, headers, gateway.settings()).await?)?;
    Ok((path(&mut fields)?, fields))
}

fn path(fields: &mut Fields) -> Result<Route, Failure> {
    let path = fields.take::<String>("path").map_err(Failure::bad_request)?;
    let path = path.as_deref().unwrap_or(USUAL_PATH);
    route(path).ok_or_else(|| {
        let known: Vec<_> = routes().map(|route| route.path.name()).collect();
        Failure::bad_request(format!("path: no model answers {path:?}; write one of {}", known.join(", ")))
    })
}

fn explanation(
    gateway: &Gateway,
    route: Route,
    caller: &Caller,
    (headers, message): (&HeaderMap, &Message),
    fields: Fields,
) -> Result<Explanation, Failure> {
    let mut ask = (route.read)(fields).map_err(Failure::bad_request)?;
    gateway.recorder().check()?;
    let (serving, name) = (gateway.serving(), &gateway.settings().namespace);
    let namespace = serving.table().namespace(name);
    let found = find(namespace, headers, &mut ask, caller)?;
    message.check(namespace, found, caller)?;
    let wish = wish(headers, found.sticky_header(), &ask, caller).anew(message.force_new);
    let (task, purpose) = (ask.task, Purpose::Explain);
    let planner = Planner { gateway, serving: &serving, headers, message, caller, task, purpose };
    let legs = planner.legs(namespace, found, || ask.needs())?;
    context::check(&ask, &legs)?;
    let walk = Walk::new(&serving, &legs);
    let asks = (0..legs.len()).map(|at| walk.ask(at, &ask)).collect::<Result<Vec<_>, _>>()?;
    let outlook = |(leg, ask): (&Leg<'_>, &Cow<'_, Ask>)| {
        let pool = serving.pool(leg.target, gateway.balance());
        gateway.balance().outlook(&pool, wish, |holder| context::fits(ask, leg.target, &holder.node))
    };
    let outlooks: Vec<Outlook> = legs.iter().zip(&asks).map(outlook).collect();
    let first = answering(gateway, &ask, &legs, &outlooks)?;
    let steps = legs.iter().zip(&outlooks).enumerate();
    let steps = steps.map(|(at, (leg, outlook))| step(namespace, &ask, leg, outlook, at == first));
    let explanation = Explanation {
        path: route.path.name().into(),
        namespace: name.clone(),
        requested: ask.model.clone(),
        found: named(found),
        walk: told(found, message, caller, &ask)?,
        session: wish.known_by.map(str::to_owned),
        split: split(found),
        schema_check: ask.check.is_some(),
        steps: steps.collect(),
        ..effects(gateway, &asks[first], &legs[first], &outlooks[first])
    };
    Ok(explanation)
}

/// The leg that the request would be answered by, or wait for.
///
/// # Errors
/// Why it would be refused.
fn answering(gateway: &Gateway, ask: &Ask, legs: &[Leg<'_>], outlooks: &[Outlook]) -> Result<usize, Failure> {
    let has_nodes = |(leg, outlook): (&Leg<'_>, &Outlook)| {
        outlook.nodes.iter().any(|seen| context::fits(ask, leg.target, &seen.holder.node))
    };
    let first = legs.iter().zip(outlooks).position(has_nodes);
    let is_crowded = |outlook: &Outlook| outlook.next.is_none() && outlook.waiting >= gateway.settings().queue_length;
    let mut faults = Faults::default();
    match first {
        Some(first) if !is_crowded(&outlooks[first]) => return Ok(first),
        Some(_) => faults.add_full(true),
        None => {}
    }
    let reason = legs.last().map(Leg::reason).unwrap_or_default();
    Err(faults.failure(&reason, context::too_narrow(ask, legs), gateway.settings().queue_limit))
}

fn named(found: Found<'_>) -> Named {
    match found {
        Found::Deployment(name, _) => Named { kind: "deployment".into(), name: name.into() },
        Found::Tag(target) => Named { kind: "model".into(), name: target.tag.clone() },
        Found::Routed(routed) => {
            let (kind, name) = routed.named();
            Named { kind: kind.into(), name: name.into() }
        }
    }
}

/// How the name was resolved, where the directory did that.
fn told(found: Found<'_>, message: &Message, caller: &Caller, ask: &Ask) -> Result<Vec<String>, Failure> {
    // Who may use some models only isn't told of others.
    let Some(routed) = found.routed().filter(|_| caller.patterns().is_none()) else { return Ok(Vec::new()) };
    let (asked, own) = (routed.asked(message)?, routed.pointer());
    let mut walk = routed.directory.story(&own, ask.needs());
    if asked != own {
        walk.push("the message asks for something else".into());
        walk.extend(routed.directory.story(&asked, ask.needs()));
    }
    Ok(walk)
}

fn split(found: Found<'_>) -> Vec<Share> {
    let Found::Deployment(_, Deployment { stable, canary, .. }) = found else { return Vec::new() };
    let share = |side: &str, version: &Option<String>, weight| Share {
        side: side.into(),
        version: version.clone().unwrap_or_default(),
        weight,
    };
    let weight = canary.as_ref().map_or(0, |canary| canary.weight.min(100));
    let trial = canary.iter().map(|canary| share("canary", &canary.target.version, weight));
    [share("stable", &stable.version, 100 - weight)].into_iter().chain(trial).collect()
}

fn step(namespace: &Namespace, ask: &Ask, leg: &Leg<'_>, outlook: &Outlook, is_first: bool) -> Step {
    let target = leg.target;
    Step {
        model: target.tag.clone(),
        version: target.version.clone(),
        digest: target.digest.clone(),
        reason: leg.reason(),
        waiting: outlook.waiting,
        nodes: nodes::nodes(namespace, ask, target, outlook, is_first),
    }
}

/// What would be sent to the node that comes next, or to the first one that is waited for.
fn effects(gateway: &Gateway, ask: &Ask, leg: &Leg<'_>, outlook: &Outlook) -> Explanation {
    let target = leg.target;
    let fits = |at: &usize| context::fits(ask, target, &outlook.nodes[*at].holder.node);
    let Some(at) = outlook.next.map(|(at, _)| at).or_else(|| (0..outlook.nodes.len()).find(fits)) else {
        return Explanation::default();
    };
    let (seen, node) = (&outlook.nodes[at], &*outlook.nodes[at].holder.node);
    let wanted = ask.context(target, node).unwrap_or_default();
    let running = seen.window.max(wanted.map(|(window, _)| window));
    let window = widened(wanted, running, node.max_context_length.map(u64::from));
    let parameters = ask.parameters(target, node, window);
    let body = ask.body(target, &parameters, false);
    let cuts = may_truncate(gateway, ask);
    let answers = outlook.next.map(|_| node.name.as_str().into());
    Explanation {
        waits: answers.is_none(),
        resolved: Some(Resolved {
            model: target.tag.as_str().into(),
            digest: seen.holder.digest.as_str().into(),
            version: target.version.as_deref().map(Into::into),
            deployment: leg.deployment.map(Into::into),
            node: answers,
            reason: leg.reason().into(),
        }),
        parameters: parameters.effective(),
        dropped_parameters: parameters.dropped.clone(),
        keep_alive: parameters.effective_keep_alive(),
        context: context_view(window, prompt::bytes(&body.bytes), cuts),
        system_prompt: body.has_system_prompt.then(|| target.prompt_edition.clone()).flatten(),
        ..Explanation::default()
    }
}

fn context_view(window: Option<(u64, Source)>, prompt_bytes: u64, cuts: bool) -> Context {
    let tokens = prompt::tokens(prompt_bytes);
    let is_longer = window.map(|(window, _)| tokens > window);
    Context {
        num_ctx: window.map(|(value, source)| Effective { value, source }),
        prompt_bytes,
        estimated_prompt_tokens: tokens,
        is_prompt_longer: is_longer,
        when_longer: if cuts { "cut" } else { "refused" }.into(),
    }
}
