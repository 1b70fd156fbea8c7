//! What nodes are asked for on behalf of a caller besides answers of models: `/api/show` and `/api/ps`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Gateway,
    attempt::read,
    callers::Caller,
    failure::Failure,
    fields::{Fields, json},
    lines::Renamer,
    listing,
    plan::{Planner, Purpose},
    relay::Upstream,
    resolve::{Found, resolve},
    serving::Serving,
    session::Message,
    task::Task,
};
use crate::{
    domain::{alias::is_hidden, model_db::Capabilities},
    ports::{NodeError, NodeRequest, NodeResponse, TraceHeaders},
    routing_table::{Namespace, Node, Target},
};

/// How long a node may take to tell what it knows anyway.
const TELL_WITHIN: Duration = Duration::from_secs(5);
/// How many nodes are asked at the same time.
const AT_ONCE: usize = 64;
/// The longest answer that is read, in bytes: with `verbose` a node tells the whole vocabulary.
const LONGEST: usize = 64 << 20;

/// What a node says about a model, as `/api/show` has it.
///
/// # Errors
/// That there is no such model, that it isn't for this caller, or why no node told.
pub async fn show(gateway: &Gateway, caller: &Caller, mut asked: Fields) -> Result<Bytes, Failure> {
    let name: Option<String> = asked.take("model").map_err(Failure::bad_request)?;
    let other: Option<String> = asked.take("name").map_err(Failure::bad_request)?;
    let Some(name) = [name, other].into_iter().flatten().find(|name| !name.is_empty()) else {
        return Err(Failure::bad_request("model is required"));
    };
    let serving = gateway.serving();
    let table = serving.table();
    let target = match resolve(table.namespace(&gateway.settings().namespace), &name, caller)? {
        Found::Deployment(_, deployment) => &deployment.stable,
        Found::Tag(target) => target,
        found @ Found::Routed(_) => first(gateway, &serving, caller, found)?,
    };
    if target.offer.is_some() {
        return Ok(json(listing::offered(target)));
    }
    let body = asked.write(&[("model", json(&*target.model))]);
    let (renamer, mut told) = (Renamer::new(&target.model, &target.tag), Vec::new());
    for holder in &target.holders {
        let error = match tell(gateway, &holder.node, "/api/show", Some(body.clone())).await {
            Ok((200, answer)) => return Ok(renamed(answer, &renamer)),
            Ok((status, answer)) => NodeError::Status { status, message: renamer.error(&answer) },
            Err(error) => error,
        };
        told.push(format!("{}: {error}", holder.node.name));
    }
    let told = if told.is_empty() { "no ready node holds it".into() } else { told.join("; ") };
    Err(Failure::new(StatusCode::BAD_GATEWAY, "upstream_failed", format!("no node could show {name:?}: {told}")))
}

/// The model that a name comes to which stands for several.
fn first<'a>(
    gateway: &Gateway,
    serving: &'a Serving,
    caller: &Caller,
    found: Found<'a>,
) -> Result<&'a Target, Failure> {
    let (namespace, headers, message) = (&gateway.settings().namespace, &HeaderMap::new(), &Message::default());
    let (task, purpose) = (Task::Chat, Purpose::Explain);
    let planner = Planner { gateway, serving, headers, message, caller, task, purpose };
    let legs = planner.legs(serving.table().namespace(namespace), found, Capabilities::default)?;
    let nothing = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, "no_target", "it comes to no model");
    legs.first().map(|leg| leg.target).ok_or_else(nothing)
}

/// The answer with the tag in place of the name that the node knows it by: the Modelfile names it.
fn renamed(answer: Bytes, renamer: &Renamer) -> Bytes {
    let Ok(mut shown) = serde_json::from_slice::<Map<String, Value>>(&answer) else { return answer };
    if let Some(Value::String(modelfile)) = shown.get_mut("modelfile") {
        *modelfile = renamer.text(modelfile);
    }
    json(shown)
}

#[derive(Deserialize)]
struct Loaded {
    models: Vec<Map<String, Value>>,
}

/// The models in memory over all nodes of those that a caller may use, as `/api/ps` has them; each says on which `node`.
/// A node that doesn't answer has none.
pub async fn ps(gateway: &Gateway, caller: &Caller) -> Value {
    let table = gateway.table();
    let namespace = table.namespace(&gateway.settings().namespace);
    let names = versions(namespace);
    let nodes: Vec<Arc<Node>> = namespace.nodes.values().cloned().collect();
    let answers = stream::iter(nodes).map(|node| {
        let gateway = gateway.clone();
        async move {
            let answer = tell(&gateway, &node, "/api/ps", None).await;
            (node, answer.ok().and_then(|(_, answer)| serde_json::from_slice::<Loaded>(&answer).ok()))
        }
    });
    let answers: Vec<_> = answers.buffered(AT_ONCE).collect().await;
    let models: Vec<Value> = answers
        .into_iter()
        .flat_map(|(node, loaded)| {
            let models = loaded.into_iter().flat_map(|loaded| loaded.models);
            models.filter_map(|model| running(model, &node, &names, caller)).collect::<Vec<_>>()
        })
        .collect();
    serde_json::json!({ "models": models })
}

/// The deployments whose versions are served, and the versions, by their aliases.
fn versions(namespace: &Namespace) -> BTreeMap<&str, (&str, &str)> {
    let both = namespace.deployments.iter().flat_map(|(name, deployment)| {
        let targets = [Some(&deployment.stable), deployment.canary.as_ref().map(|canary| &canary.target)];
        targets.into_iter().flatten().map(move |target| (name, target))
    });
    both.map(|(name, target)| (&*target.model, (&**name, target.version.as_deref().unwrap_or("")))).collect()
}

fn running(
    mut model: Map<String, Value>,
    node: &Node,
    versions: &BTreeMap<&str, (&str, &str)>,
    caller: &Caller,
) -> Option<Value> {
    let called = model.get("name")?.as_str()?;
    let (name, version) = match versions.get(called) {
        Some((deployment, version)) => (*deployment, Some(version)),
        None if is_hidden(called) => return None,
        None => (called, None),
    };
    if caller.patterns().is_some_and(|patterns| !patterns.fit(name)) {
        return None;
    }
    let name = version.map_or_else(|| name.to_owned(), |version| format!("{name}:{version}"));
    for field in ["name", "model"] {
        model.insert(field.into(), name.clone().into());
    }
    model.insert("node".into(), node.name.clone().into());
    Some(Value::Object(model))
}

/// What a node answers on one of its paths.
async fn tell(
    gateway: &Gateway,
    node: &Node,
    path: &'static str,
    body: Option<Bytes>,
) -> Result<(u16, Bytes), NodeError> {
    let trace = TraceHeaders::default();
    let request = NodeRequest { url: node.url.clone(), path, body, head_within: TELL_WITHIN, offer: None, trace };
    let NodeResponse { status, body, .. } = gateway.inference().send(request).await?;
    Ok((status, read(&mut Upstream { body, silence: TELL_WITHIN }, LONGEST).await?))
}
