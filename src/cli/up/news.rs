//! What is told of a start: `ready.json` for programs, a few lines for people.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio::time::{Instant, timeout};

use super::{
    defaults,
    nodes::{self, Named},
    parts::Parts,
    providers, words,
};
use crate::{
    api::OllamaNode, controller::Context, data_dir::DataDir, domain::model_db::Defaults, telemetry::Readiness,
};

/// How long nodes may take to be looked at.
const LOOKED_WITHIN: Duration = Duration::from_secs(10);

/// What there is to tell.
pub struct News {
    /// Where the state is.
    pub dir: DataDir,
    /// When it began.
    pub began: Instant,
    /// The nodes that were named.
    pub named: Named,
    /// Whether providers are made whose keys are in the environment.
    pub from_environment: bool,
    /// The default models that settings name.
    pub defaults: Defaults,
    /// Set once a folder with manifests was applied.
    pub first_pass: Option<Readiness>,
}

impl News {
    /// Tells it, and shows where everything is for as long as this isn't dropped.
    ///
    /// # Errors
    /// When the nodes can't be made, or `ready.json` can't be written.
    pub async fn tell(self, parts: Parts) -> Result<(), String> {
        let applier = nodes::applier(&parts.client).await?;
        nodes::ensure_namespace(&applier, &self.named.namespace).await?;
        // Whether a node is found by itself depends on those in the folder, which take longer.
        let is_early = self.first_pass.is_none() || !self.named.nodes.is_empty();
        let early = if is_early { Some(nodes::apply(&applier, &parts.client, &self.named).await?) } else { None };
        parts.are_ready().await;
        let _shown = parts.ready.show(&self.dir)?;
        say(&words::where_it_is(&parts.ready, self.dir.path(), self.began.elapsed()));
        if let Some(first_pass) = &self.first_pass {
            first_pass.reached().await;
        }
        let named = match early {
            Some(named) => named,
            None => nodes::apply(&applier, &parts.client, &self.named).await?,
        };
        providers::apply(&applier, &parts.client, &self.named.namespace, self.from_environment).await?;
        defaults::apply(&applier, &self.named.namespace, &self.defaults).await?;
        let found = looked_at(&parts.context, &self.named.namespace, &named).await;
        say(&words::nodes(&found));
        say(&words::advice_for_far_nodes(&found, &parts.ready.mirror).unwrap_or_default());
        say(&words::to_try(&parts.ready, &found));
        std::future::pending().await
    }
}

/// Whoever closed stdout wants to hear no more, and the rest goes on.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// The nodes of a namespace, once those of these names and all others were looked at, or some seconds went by.
async fn looked_at(context: &Context, namespace: &str, names: &BTreeMap<String, bool>) -> Vec<Arc<OllamaNode>> {
    let (mut looked, mut changes) = (context.looked.subscribe(), context.nodes.changes().boxed());
    let nodes = || {
        let all = context.nodes.all();
        let is_here = |node: &Arc<OllamaNode>| node.metadata.namespace.as_deref() == Some(namespace);
        all.into_iter().filter(is_here).collect::<Vec<_>>()
    };
    // What a new node's status says was seen just now.
    let is_told = |node: &OllamaNode| names.get(&node.name_any()) == Some(&true) && node.status.is_some();
    let is_known = |node: &OllamaNode| is_told(node) || context.looked.borrow().contains(&ObjectRef::from_obj(node));
    let all = || {
        let nodes = nodes();
        let is_there = |name: &String| nodes.iter().any(|node| node.name_any() == *name);
        names.keys().all(is_there) && nodes.iter().all(|node| is_known(node))
    };
    let wait = async {
        while !all() {
            tokio::select! {
                _ = looked.changed() => {}
                _ = changes.next() => {}
            }
        }
    };
    // What was not looked at in time is told as it is known.
    let _ = timeout(LOOKED_WITHIN, wait).await;
    nodes()
}
