//! How a pull goes, told line by line in the words of Ollama.

use std::{collections::VecDeque, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{super::Watched, Operations, again::Wanted, delete, is_going};
use crate::{
    api::{HasConditions, ModelPull, OllamaNode},
    domain::{
        conditions::STALLED,
        operations::{News, STARTING, SeenNode, SeenPull, is_news, news, refreshed},
        pull::{Fault, Line},
    },
    ports::OperationError,
};

/// A line is repeated after this long without another one: connections that carry nothing are cut by proxies.
const REPEAT_AFTER: Duration = Duration::from_secs(10);
const TIMED_OUT: &str = "TimedOut";

/// One caller who waits for a pull.
pub struct Followed {
    api: Api<ModelPull>,
    nodes: Watched<OllamaNode>,
    pulls: Watched<ModelPull>,
    changes: BoxStream<'static, ()>,
    stop: CancellationToken,
    /// Had this caller it made, it goes again if nothing can come of it.
    wanted: Wanted,
    was_seen: bool,
    told: Option<Line>,
    repeat_at: Instant,
    /// What is still to be said, and whether that is all.
    waiting: VecDeque<Line>,
    is_over: bool,
}

impl Followed {
    /// From now on.
    pub fn new(operations: &Operations, wanted: Wanted) -> Self {
        let changes =
            stream::select(operations.pulls.changes().map(drop).boxed(), operations.nodes.changes().map(drop).boxed());
        Self {
            api: operations.api(),
            nodes: operations.nodes.clone(),
            pulls: operations.pulls.clone(),
            changes: changes.boxed(),
            stop: operations.stop.clone(),
            wanted,
            was_seen: false,
            told: None,
            repeat_at: Instant::now(),
            waiting: VecDeque::new(),
            is_over: false,
        }
    }

    /// The next line; `None` after the last one.
    pub async fn next(&mut self) -> Option<Result<Line, OperationError>> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                self.repeat_at = Instant::now() + REPEAT_AFTER;
                self.told = Some(line.clone());
                return Some(Ok(line));
            }
            if self.is_over {
                return None;
            }
            if let Err(error) = self.look().await {
                self.is_over = true;
                return Some(Err(error));
            }
            if self.waiting.is_empty() {
                tokio::select! {
                    change = self.changes.next() => if change.is_none() { return self.stops() },
                    () = sleep_until(self.repeat_at) => self.waiting.extend(self.told.clone()),
                    () = self.stop.cancelled() => return self.stops(),
                }
            }
        }
    }

    fn stops(&mut self) -> Option<Result<Line, OperationError>> {
        self.is_over = true;
        let message = format!(
            "this gateway stops; the pull goes on: `ollama pull {}` shows it again",
            self.wanted.pull.spec.model
        );
        Some(Err(OperationError::Unavailable(message)))
    }

    /// Looks, and notes what is worth saying.
    async fn look(&mut self) -> Result<(), OperationError> {
        let uid = self.wanted.pull.uid();
        let namespace = self.wanted.pull.namespace().unwrap_or_default();
        let found = self.pulls.find(&namespace, |pull| pull.uid() == uid).pop();
        let news = match found {
            Some(pull) if is_going(&*pull) => return Err(self.deleted()),
            Some(pull) => {
                self.was_seen = true;
                self.read(&pull)
            }
            None if self.was_seen => return Err(self.deleted()),
            // The watch is behind the write.
            None => None,
        };
        match news.unwrap_or_else(|| News::Going(Line { status: STARTING.into(), ..Line::default() })) {
            News::Going(line) => self.waiting.extend(is_news(self.told.as_ref(), &line).then_some(line)),
            News::Done { later } => {
                // The bar goes to its end.
                let bar = self.told.take().filter(|line| line.total.is_some());
                self.waiting.extend(bar.map(|line| Line { completed: line.total, ..line }));
                let lines = self.wanted.note.take().into_iter().chain(later).chain(["success".into()]);
                self.waiting.extend(lines.map(|status| Line { status, ..Line::default() }));
                self.is_over = true;
            }
            News::Failed { message, is_hopeless } => {
                if is_hopeless && self.wanted.is_new {
                    // Why there will be no model matters more than what is left of the wish.
                    let deleted = delete(&self.api, &self.wanted.pull).await;
                    deleted.unwrap_or_else(|error| warn!(%error, "a pull that nothing can come of stays"));
                }
                return Err(OperationError::Failed(message));
            }
        }
        Ok(())
    }

    fn deleted(&self) -> OperationError {
        OperationError::Failed(format!("ModelPull {} was deleted meanwhile", self.wanted.pull.name_any()))
    }

    /// What its status says, once that is about its present spec and all nodes.
    fn read(&self, pull: &ModelPull) -> Option<News> {
        let status = pull.status.as_ref()?;
        let asked = pull.refresh_asked();
        let is_behind = self.wanted.before.as_ref().is_some_and(|before| before.as_deref() == asked);
        if is_behind || status.observed_generation != pull.metadata.generation {
            return None;
        }
        let nodes = self.nodes.find(&pull.namespace().unwrap_or_default(), |node| !is_going(node));
        let picked = nodes.iter().filter(|node| pull.spec.node_selector.matches(node.labels())).count();
        if status.desired_nodes < picked as i64 {
            // The controller has not heard of all nodes yet.
            return None;
        }
        let is_usable = |name: &str| nodes.iter().any(|node| node.name_any() == name && node.usable().is_ok());
        let seen = SeenPull {
            object: &pull.name_any(),
            model: &pull.spec.model,
            phase: status.phase,
            progress: status.progress,
            desired: status.desired_nodes,
            ready: status.ready_nodes,
            resolved: status.resolved.as_ref().map(|resolved| (&*resolved.digest, resolved.size_bytes)),
            is_overdue: pull.conditions().iter().any(|c| c.type_ == STALLED && c.reason == TIMED_OUT),
            nodes: status
                .nodes
                .iter()
                .map(|node| SeenNode {
                    name: &node.node,
                    phase: node.phase,
                    fault: Fault::from_reason(&node.reason),
                    message: &node.message,
                    is_usable: is_usable(&node.node),
                })
                .collect(),
        };
        let answered = status.refresh.as_ref().filter(|refresh| asked == Some(refresh.id.as_str()));
        refreshed(news(&seen), asked.map(|_| answered.map(|refresh| refresh.message.as_str())))
    }
}
