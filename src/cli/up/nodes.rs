//! The nodes that are named with the command, as objects.

use std::collections::BTreeMap;

use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tracing::warn;

use crate::{
    api::{LABEL_APPLIED_BY, OllamaNode},
    cluster::{self, Applier, Client, Identity},
    domain::named_nodes::{Changes, Maker, NamedNode, NamedNodes, Server},
};

const MANAGER: &str = "drover-up";
/// On every node that was named with the command, and on none that others made.
const LABEL: (&str, &str) = (LABEL_APPLIED_BY, "up");

/// What was said about nodes at the start.
pub struct Named {
    /// Those with a name.
    pub nodes: NamedNodes,
    /// Where their objects are.
    pub namespace: String,
    /// URL of Drover's own gateway, which is no node.
    pub gateway: String,
}

/// What applies the nodes.
///
/// # Errors
/// What the API says.
pub async fn applier(client: &Client) -> Result<Applier, String> {
    Applier::new(client.clone(), MANAGER, LABEL).await.map_err(|error| error.to_string())
}

/// Makes the namespace that everything is in, if it isn't there.
///
/// # Errors
/// What the API says.
pub async fn ensure_namespace(applier: &Applier, namespace: &str) -> Result<(), String> {
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
    let known = applier.recognise(body, namespace)?;
    applier.apply(&known, false).await.map_err(|error| format!("namespace {namespace}: {error}"))
}

/// Makes the nodes that are named now and deletes those that only an earlier start named. Gives the names of the first,
/// and whether each is new.
///
/// # Errors
/// What the API says.
pub async fn apply(applier: &Applier, client: &Client, named: &Named) -> Result<BTreeMap<String, bool>, String> {
    let Named { nodes, namespace, gateway } = named;
    let own = applier.own().await.map_err(|error| error.to_string())?;
    let is_own = |name: &str| own.iter().any(|present| is_node(&present.identity, namespace, name));
    let there = there(client, namespace, is_own).await?;
    let asked_for = if nodes.is_empty() { asked_for(gateway)? } else { None };
    let is_asked_for = asked_for.is_some();
    let usual = asked_for.unwrap_or_default().url;
    let Changes { apply, delete } = nodes.changes(&usual, is_asked_for, &there);
    for (node, maker) in &apply {
        let known = applier.recognise(object(node), namespace)?;
        let applied = applier.apply(&known, *maker == Maker::Named).await;
        applied.map_err(|error| format!("node {}: {error}", node.name))?;
    }
    for name in &delete {
        for present in own.iter().filter(|present| is_node(&present.identity, namespace, name)) {
            applier.delete(present).await.map_err(|error| format!("node {name}: {error}"))?;
        }
    }
    Ok(apply.into_iter().map(|(node, _)| (node.name.clone(), !there.contains_key(&node.name))).collect())
}

fn object(node: &NamedNode) -> Value {
    json!({
        "apiVersion": "drover.dev/v1alpha1",
        "kind": "OllamaNode",
        "metadata": { "name": node.name },
        "spec": { "url": node.url },
    })
}

fn is_node(identity: &Identity, namespace: &str, name: &str) -> bool {
    identity.kind == "OllamaNode" && identity.namespace.as_deref() == Some(namespace) && identity.name == name
}

async fn there(
    client: &Client,
    namespace: &str,
    is_own: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Maker>, String> {
    let nodes = cluster::api::<OllamaNode>(client, Some(namespace)).list(&ListParams::default()).await;
    let names = nodes.map_err(|error| error.to_string())?.items.into_iter().map(|node| node.name_any());
    let maker = |name: &str| if is_own(name) { Maker::Named } else { Maker::Other };
    Ok(names.map(|name| (name.clone(), maker(&name))).collect())
}

/// The server that the variable of Ollama's own programs names. One that sends them to Drover's gateway names none.
fn asked_for(gateway: &str) -> Result<Option<Server>, String> {
    let Some(text) = std::env::var("OLLAMA_HOST").ok().filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let wrong = || format!("OLLAMA_HOST = {text:?}: write host:port or a URL without credentials");
    let server = Server::parse(&text).ok_or_else(wrong)?;
    if !server.has_good_port {
        warn!("OLLAMA_HOST = {text:?}: what stands there is no port; {} is taken", server.url);
    }
    Ok(Some(server).filter(|server| server.url != gateway))
}
