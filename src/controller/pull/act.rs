//! Carries pulls out: one attempt at most for each node and model, however many objects want it, and one at a time
//! on a node.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt;
use jiff::Timestamp;
use kube_runtime::reflector::ObjectRef;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{super::Context, observe::Seen, plan::Plan};
use crate::{
    api::{ModelPull, ModelPullSpec, OllamaNode, Retry},
    domain::{
        model_name::ModelName,
        node::NodeModel,
        pull::{self, Action, Attempt, Fault, Line, Progress, STALL_AFTER},
    },
    ports::NodeError,
};

/// A node's URL and a model's full name.
type Key = (String, String);

/// Attempts under way or ended, and a lock for each node.
#[derive(Default)]
pub struct Pulling {
    attempts: Mutex<HashMap<Key, Entry>>,
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

struct Entry {
    attempt: Attempt,
    wanted_by: HashSet<ObjectRef<ModelPull>>,
    cancel: CancellationToken,
}

impl Pulling {
    /// What an attempt came to; `None` when there was none.
    pub fn attempt(&self, url: &str, model: &str) -> Option<Attempt> {
        self.attempts().get(&key(url, model)).map(|entry| entry.attempt.clone())
    }

    /// The lock that pulls, copies and deletions on one node share.
    pub async fn lock(&self, url: &str) -> OwnedMutexGuard<()> {
        self.node_lock(url).lock_owned().await
    }

    /// The same, unless somebody has it.
    pub fn try_lock(&self, url: &str) -> Option<OwnedMutexGuard<()>> {
        self.node_lock(url).try_lock_owned().ok()
    }

    /// An object no longer wants anything: what nobody else wants is broken off.
    pub fn release(&self, pull: &ObjectRef<ModelPull>) {
        self.attempts().retain(|_, entry| {
            entry.wanted_by.remove(pull);
            let wanted = !entry.wanted_by.is_empty();
            if !wanted {
                entry.cancel.cancel();
            }
            wanted
        });
    }

    /// An object wants these and no others any more: nodes go, and its spec may name another model.
    fn keep_only(&self, pull: &ObjectRef<ModelPull>, keys: &HashSet<Key>) {
        let outdated: Vec<Key> = {
            let attempts = self.attempts();
            let wanted = attempts.iter().filter(|(key, entry)| entry.wanted_by.contains(pull) && !keys.contains(key));
            wanted.map(|(key, _)| key.clone()).collect()
        };
        for key in outdated {
            self.release_one(&key, pull);
        }
    }

    /// The object's spec changed: what failed is tried again now, not after the wait.
    pub fn retry_now(&self, pull: &ObjectRef<ModelPull>, now: Timestamp) {
        for entry in self.attempts().values_mut().filter(|entry| entry.wanted_by.contains(pull)) {
            if let Attempt::Failed { retry_at, .. } = &mut entry.attempt {
                *retry_at = now;
            }
        }
    }

    fn release_one(&self, key: &Key, pull: &ObjectRef<ModelPull>) {
        let mut attempts = self.attempts();
        let Some(entry) = attempts.get_mut(key) else { return };
        entry.wanted_by.remove(pull);
        if entry.wanted_by.is_empty() {
            entry.cancel.cancel();
            attempts.remove(key);
        }
    }

    /// Takes part in the attempt that is under way, or says how to begin one: how many failed in a row before.
    fn join_or_begin(&self, key: &Key, pull: ObjectRef<ModelPull>) -> Option<(u32, CancellationToken)> {
        let mut attempts = self.attempts();
        let failures = match attempts.get_mut(key) {
            Some(entry) if matches!(entry.attempt, Attempt::Queued | Attempt::Running(_)) => {
                entry.wanted_by.insert(pull);
                return None;
            }
            Some(Entry { attempt: Attempt::Failed { failures, .. }, .. }) => *failures,
            _ => 0,
        };
        let cancel = CancellationToken::new();
        let entry = attempts.entry(key.clone()).or_insert_with(|| Entry {
            attempt: Attempt::Queued,
            wanted_by: HashSet::new(),
            cancel: cancel.clone(),
        });
        entry.attempt = Attempt::Queued;
        entry.cancel = cancel.clone();
        entry.wanted_by.insert(pull);
        Some((failures, cancel))
    }

    fn set(&self, key: &Key, attempt: Attempt) -> Vec<ObjectRef<ModelPull>> {
        let mut attempts = self.attempts();
        let Some(entry) = attempts.get_mut(key) else { return Vec::new() };
        entry.attempt = attempt;
        entry.wanted_by.iter().cloned().collect()
    }

    fn fold(&self, key: &Key, line: &Line, now: Timestamp) -> bool {
        let mut attempts = self.attempts();
        match attempts.get_mut(key) {
            Some(Entry { attempt: Attempt::Running(progress), .. }) => {
                progress.fold(line, now);
                progress.is_stalled(now)
            }
            _ => false,
        }
    }

    fn node_lock(&self, url: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(url.trim_end_matches('/').into()).or_default().clone()
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(url: &str, model: &str) -> Key {
    let full = model.parse::<ModelName>().map_or_else(|_| model.to_owned(), |name| name.to_string());
    (url.trim_end_matches('/').to_owned(), full.to_ascii_lowercase())
}

/// Does what the plan says.
pub fn act(context: &Arc<Context>, pull: &ModelPull, plan: &Plan, seen: &[Seen]) {
    let object = ObjectRef::from_obj(pull);
    let keys = seen.iter().map(|seen| key(&seen.node.spec.url, &pull.spec.model)).collect();
    context.pulling.keep_only(&object, &keys);
    for (seen, action) in seen.iter().zip(&plan.actions) {
        let key = key(&seen.node.spec.url, &pull.spec.model);
        let finished = matches!(seen.attempt, Some(Attempt::Done { .. } | Attempt::Failed { .. }));
        match action {
            Action::Start => begin(context, key, object.clone(), pull, &seen.node),
            Action::Cancel => context.pulling.release_one(&key, &object),
            // The node's own list says so by now: a model that vanishes later is pulled again.
            Action::Keep if finished && seen.node.model(&pull.spec.model).is_some() => {
                context.pulling.release_one(&key, &object);
            }
            Action::Keep | Action::WaitUntil(_) => {}
        }
    }
}

fn begin(context: &Arc<Context>, key: Key, object: ObjectRef<ModelPull>, pull: &ModelPull, node: &OllamaNode) {
    let Some((failures, cancel)) = context.pulling.join_or_begin(&key, object) else { return };
    let node = ObjectRef::from_obj(node);
    let job = Job { context: context.clone(), key, spec: pull.spec.clone(), node, failures };
    context.jobs.start(cancel, job.run());
}

/// One attempt on one node.
struct Job {
    context: Arc<Context>,
    key: Key,
    spec: ModelPullSpec,
    node: ObjectRef<OllamaNode>,
    failures: u32,
}

impl Job {
    async fn run(self) {
        let pulling = &self.context.pulling;
        let _turn = pulling.lock(&self.key.0).await;
        pulling.set(&self.key, Attempt::Running(Progress::default()));
        info!(node = %self.node.name, model = self.spec.model, "pulling");
        let outcome = match self.pull().await {
            Ok(model) => {
                info!(node = %self.node.name, model = self.spec.model, model.digest, "pulled");
                Attempt::Done { digest: model.digest, size_bytes: model.size_bytes }
            }
            Err((fault, message)) => self.failed(fault, message),
        };
        for object in pulling.set(&self.key, outcome) {
            self.context.pokes.pull(object);
        }
        self.context.pokes.node(self.node.clone());
    }

    fn failed(&self, fault: Fault, message: String) -> Attempt {
        let failures = self.failures + 1;
        let Retry { initial_delay, max_delay } = &self.spec.retry;
        let wait = pull::retry_after(fault, failures, initial_delay.0, max_delay.0, rand::random());
        warn!(node = %self.node.name, model = self.spec.model, reason = fault.reason(), message, ?wait, "pull failed");
        let retry_at = Timestamp::now().saturating_add(wait).unwrap_or(Timestamp::MAX);
        Attempt::Failed { fault, message, failures, retry_at }
    }

    async fn pull(&self) -> Result<NodeModel, (Fault, String)> {
        let mut lines = self.context.ollama.pull(&self.key.0, &self.spec.model, self.spec.insecure);
        let mut patience = STALL_AFTER;
        loop {
            let line = match tokio::time::timeout(patience, lines.next()).await {
                Err(_) => return Err((Fault::Stalled, "nothing was heard from the node".into())),
                Ok(None) => return Err((Fault::NodeAway, "the node ended the pull early".into())),
                Ok(Some(Err(error))) => return Err(of_node(&error)),
                Ok(Some(Ok(line))) => line,
            };
            if let Some(message) = line.error {
                return Err((Fault::from_message(&message), message));
            }
            if line.status == "success" {
                return self.find().await;
            }
            patience = line.patience();
            if self.context.pulling.fold(&self.key, &line, Timestamp::now()) {
                return Err((Fault::Stalled, "the pull did not move".into()));
            }
        }
    }

    /// The model as the node lists it now.
    async fn find(&self) -> Result<NodeModel, (Fault, String)> {
        let probe = self.context.ollama.probe(&self.key.0).await;
        let probe = probe.map_err(|fault| (Fault::NodeAway, fault.advice().to_owned()))?;
        let held = probe.models.into_iter().find(|model| ModelName::same(&model.name, &self.spec.model));
        held.ok_or((Fault::Other, "the node says success but does not list the model".into()))
    }
}

fn of_node(error: &NodeError) -> (Fault, String) {
    let fault = match error {
        NodeError::Status { message, .. } => Fault::from_message(message),
        NodeError::Connect(_) | NodeError::TimedOut(_) | NodeError::Broken(_) => Fault::NodeAway,
    };
    (fault, error.to_string())
}
