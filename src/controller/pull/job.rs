//! One attempt on one node: through the mirror to a name of its own, verified, then copied to the plain name; or from the
//! registry directly.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use jiff::Timestamp;
use kube_runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    super::Context,
    grants::{Grants, Request, Trouble},
    pulling::Turn,
};
use crate::{
    api::{ModelPull, ModelPullSpec, OllamaNode},
    domain::{
        model_name::ModelName,
        node::NodeModel,
        pull::{self, Failure, Fault, STALL_AFTER},
    },
    ports::{GrantedModel, NodeError},
};

/// The mirror has the manifest at hand, and says within 20 s whether it gets the first bytes: a node that has heard
/// nothing for longer does not reach it.
const MANIFEST_WITHIN: Duration = Duration::from_secs(30);
/// After so many attempts in a row that did not reach the mirror the node pulls directly.
const UNREACHED: u32 = 2;
/// What to do when a node doesn't reach the mirror.
const CHECK_ADDRESS: &str = "check mirror-advertise, or the node's spec.mirror";
/// Where the old version is called while a new one takes its name, below the token.
const SET_ASIDE: &str = "set-aside:old";
/// Checks of one object are spread by so much.
pub(super) const JITTER: f64 = 0.1;

/// What an attempt is about, as the object that asked for it says.
pub struct Terms {
    /// The object.
    pub pull: ObjectRef<ModelPull>,
    /// Its spec.
    pub spec: ModelPullSpec,
    /// The node.
    pub node: ObjectRef<OllamaNode>,
    /// The digest that the node lists under the name.
    pub before: Option<String>,
    /// From where.
    pub route: Route,
}

/// From where a node pulls.
pub enum Route {
    /// From the registry.
    Direct,
    /// Through the mirror.
    Mirror(Box<Through>),
}

/// The way through the mirror.
pub struct Through {
    /// The mirror, and what it said.
    pub grants: Arc<Grants>,
    /// What it is asked for.
    pub request: Request,
    /// The mirror as the node reaches it.
    pub url: String,
}

/// Runs an attempt to its end.
pub async fn run(context: Arc<Context>, turn: Turn) {
    let terms = turn.terms.clone();
    let (node, model) = (&terms.node.name, &terms.spec.model);
    let _lock = context.pulling.lock(&turn.key.0).await;
    let job = Job { context: &context, turn: &turn, terms: &terms, url: &turn.key.0, since: Instant::now() };
    info!(node, model, "pulling");
    for object in turn.wanted_by() {
        context.pokes.pull(object);
    }
    let objects = match job.attempt().await {
        Ok(held) => {
            context.pulling.metrics.duration.observe(job.since.elapsed().as_secs_f64());
            context.pulling.metrics.ended(None);
            info!(node, model, held.digest, "pulled");
            if terms.before.is_none() {
                context.pulling.put(&terms.node, model);
            }
            turn.check_after(spread(terms.spec.check_interval.0));
            turn.succeed(held.digest, held.size_bytes)
        }
        Err((trouble, is_doubtful)) => job.failed(trouble, is_doubtful),
    };
    for object in objects {
        context.pokes.pull(object);
    }
    // A look at the node after each of many pulls would be as many writes: the last one's says it all, and regular looks
    // go on meanwhile.
    if !turn.is_followed() {
        context.pokes.node(terms.node.clone());
    }
}

fn spread(interval: Duration) -> Duration {
    interval.mul_f64(1.0 + JITTER * (2.0 * rand::random::<f64>() - 1.0))
}

struct Job<'a> {
    context: &'a Arc<Context>,
    turn: &'a Turn,
    terms: &'a Terms,
    url: &'a str,
    since: Instant,
}

/// Why it failed, and whether Ollama may take bytes as good that it did not verify.
type Failed = (Trouble, bool);

fn sure(trouble: Trouble) -> Failed {
    (trouble, false)
}

impl Job<'_> {
    fn failed(&self, trouble: Trouble, is_doubtful: bool) -> Vec<ObjectRef<ModelPull>> {
        let Trouble { fault, message, retry_after } = trouble;
        self.context.pulling.metrics.ended(Some(fault));
        let waits = (self.terms.spec.retry.initial_delay.0, self.terms.spec.retry.max_delay.0);
        let (node, model) = (&self.terms.node.name, &self.terms.spec.model);
        self.turn.fail(is_doubtful, |earlier| {
            let failures = earlier.map_or(0, |earlier| earlier.failures) + 1;
            let wait = pull::retry_after(fault, failures, waits, retry_after, rand::random());
            warn!(node, model, reason = fault.reason(), message, failures, ?wait, "pull failed");
            let retry_at = Timestamp::now().saturating_add(wait).unwrap_or(Timestamp::MAX);
            Failure::after(earlier, fault, message.clone(), retry_at)
        })
    }

    async fn attempt(&self) -> Result<NodeModel, Failed> {
        let Route::Mirror(way) = &self.terms.route else { return self.direct().await };
        let Through { grants, request, url } = &**way;
        let granted = grants.fresh(self.context, request).await.map_err(sure)?;
        match self.through(way, &granted).await {
            Ok(held) => {
                self.turn.bypass(None);
                Ok(held)
            }
            // The controller did reach it just now, so it is the node that doesn't.
            Err((trouble, _)) if trouble.fault == Fault::MirrorUnreachable => {
                if self.turn.unreached() < UNREACHED || self.terms.spec.digest.is_some() {
                    return Err((trouble, false));
                }
                let why = format!("directly: the node can't reach the mirror at {url}");
                warn!(node = self.terms.node.name, message = trouble.message, "pulling {why}");
                let note = format!(" ({why}: {CHECK_ADDRESS})");
                self.turn.bypass(Some(why));
                self.tell_of_bypass(url).await;
                self.direct().await.map_err(|(mut trouble, doubtful)| {
                    trouble.message += &note;
                    (trouble, doubtful)
                })
            }
            Err(failed) => Err(failed),
        }
    }

    async fn tell_of_bypass(&self, url: &str) {
        let pulls = self.context.pulls.store();
        let Some(pull) = pulls.get(&self.terms.pull).filter(|_| self.turn.is_first_bypass()) else { return };
        let message = format!(
            "node {} can't reach the mirror at {url} and pulls {} from the registry directly: {CHECK_ADDRESS}",
            self.terms.node.name, self.terms.spec.model
        );
        self.context.events.publish(&*pull, "MirrorBypassed", &message, true).await;
    }

    /// From the registry itself, to the plain name.
    async fn direct(&self) -> Result<NodeModel, Failed> {
        let (model, insecure) = (&self.terms.spec.model, self.terms.spec.insecure);
        let lines = || self.lines(model, insecure, STALL_AFTER);
        lines().await.map_err(|(message, doubtful)| (message.direct(), doubtful))?;
        if self.turn.is_doubtful() {
            self.delete(model).await.map_err(sure)?;
            lines().await.map_err(|(message, doubtful)| (message.direct(), doubtful))?;
        }
        self.find(model).await.map_err(sure)
    }

    /// Through the mirror, to a name that nobody sees, which then becomes the plain one.
    async fn through(&self, way: &Through, granted: &GrantedModel) -> Result<NodeModel, Failed> {
        let model = &self.terms.spec.model;
        let held = self.held().await.map_err(sure)?;
        let plain = held.into_iter().find(|held| ModelName::same(&held.name, model));
        if let Some(plain) = plain.as_ref().filter(|plain| plain.digest == granted.digest) {
            return Ok(plain.clone());
        }
        self.turn.announce(granted.size_bytes);
        let (host, insecure) = address(&way.url);
        let transit = transit(host, &way.request.token, model);
        let (mut is_doubtful, mut is_renewed) = (self.turn.is_doubtful(), false);
        loop {
            if let Err((ended, doubtful)) = self.lines(&transit, insecure, MANIFEST_WITHIN).await {
                let message = match ended {
                    Ended::Trouble(trouble) => return Err((trouble, doubtful)),
                    Ended::Said(message) => message,
                };
                let trouble = self.explain(way, message).await;
                // The mirror had lost the grant, which was renewed by asking.
                if trouble.fault == Fault::NoSuchModel && !is_renewed {
                    is_renewed = true;
                    continue;
                }
                return Err((trouble, doubtful));
            }
            if !std::mem::take(&mut is_doubtful) {
                break;
            }
            debug!(model, "pulled once more, because an earlier attempt was broken off while it was verified");
            self.delete(&transit).await.map_err(sure)?;
        }
        // The tag may have been looked up again meanwhile, and stand for something else.
        let now = way.grants.known(&way.request).map(|granted| granted.digest);
        let promised = [Some(&granted.digest), now.as_ref()];
        self.take_name(&transit, &way.request.token, plain.is_some(), promised).await.map_err(sure)
    }

    /// Gives what was pulled its plain name, if it is what was granted.
    async fn take_name(
        &self,
        transit: &str,
        token: &str,
        replaces: bool,
        promised: [Option<&String>; 2],
    ) -> Result<NodeModel, Trouble> {
        let model = &self.terms.spec.model;
        let pulled = self.find(transit).await?;
        if !promised.contains(&Some(&pulled.digest)) {
            self.delete(transit).await?;
            let promised = promised[0].map_or("nothing", String::as_str);
            let message = format!("the node got {}, the mirror promised {promised}", pulled.digest);
            return Err(Trouble::new(Fault::DigestMismatch, message));
        }
        // A name that is copied over leaves its bytes behind until Ollama starts again; one that is deleted does not.
        let aside = format!("{token}/{SET_ASIDE}");
        if replaces {
            self.copy(model, &aside).await?;
        }
        self.copy(transit, model).await?;
        if replaces {
            self.delete(&aside).await?;
        }
        self.delete(transit).await?;
        Ok(NodeModel { name: model.clone(), ..pulled })
    }

    /// What Ollama's words mean when it pulls through a mirror: the mirror knows best why it refused.
    async fn explain(&self, way: &Through, message: String) -> Trouble {
        let message = message.replace(&way.request.token, "…");
        let fault = Fault::through_mirror(&message);
        if matches!(fault, Fault::NoSpace | Fault::NeedsNewerOllama | Fault::MirrorUnreachable) {
            return Trouble::new(fault, message);
        }
        match way.grants.renew(self.context, &way.request).await {
            Err(trouble) => trouble,
            Ok(_) => Trouble::new(fault, message),
        }
    }

    /// Has the node pull a name, and follows what it says.
    async fn lines(&self, name: &str, insecure: bool, first: Duration) -> Result<(), (Ended, bool)> {
        let mut lines = self.context.ollama.pull(self.url, name, insecure);
        let (mut patience, mut arrived, mut verifying) = (first, 0, false);
        let broken = |fault, words: &str, verifying| Err((Ended::Trouble(Trouble::new(fault, words)), verifying));
        loop {
            let line = match tokio::time::timeout(patience, lines.next()).await {
                Err(_) if patience == MANIFEST_WITHIN => {
                    return broken(Fault::MirrorUnreachable, "the node heard nothing from the mirror", false);
                }
                Err(_) => return broken(Fault::Stalled, "nothing was heard from the node", verifying),
                Ok(None) => return broken(Fault::NodeAway, "the node ended the pull early", verifying),
                Ok(Some(Err(NodeError::Status { message, .. }))) => return Err((Ended::Said(message), false)),
                Ok(Some(Err(error))) => return broken(Fault::NodeAway, &error.to_string(), verifying),
                Ok(Some(Ok(line))) => line,
            };
            if let Some(message) = line.error {
                return Err((Ended::Said(message), false));
            }
            if line.status == "success" {
                return Ok(());
            }
            if line.status != "pulling manifest" {
                patience = line.patience();
            }
            let now = Timestamp::now();
            let progress = self.turn.fold(&line, now);
            verifying = progress.is_verifying();
            self.context.pulling.metrics.bytes.inc_by(u64::try_from(progress.arrived() - arrived).unwrap_or_default());
            arrived = progress.arrived();
            if progress.is_stalled(now) {
                return broken(Fault::Stalled, "the pull did not move", false);
            }
            if self.since.elapsed() >= self.terms.spec.timeout.0 && self.turn.is_wanted() {
                let words = format!("it took longer than {}", self.terms.spec.timeout);
                return broken(Fault::TimedOut, &words, verifying);
            }
        }
    }

    /// A model as the node lists it now.
    async fn find(&self, name: &str) -> Result<NodeModel, Trouble> {
        let held = self.held().await?.into_iter().find(|held| ModelName::same(&held.name, name));
        held.ok_or_else(|| Trouble::new(Fault::Other, "the node says success but does not list the model"))
    }

    async fn held(&self) -> Result<Vec<NodeModel>, Trouble> {
        let probe = self.context.ollama.probe(self.url).await;
        Ok(probe.map_err(|fault| Trouble::new(Fault::NodeAway, fault.advice()))?.models)
    }

    async fn copy(&self, from: &str, to: &str) -> Result<(), Trouble> {
        self.context.ollama.copy(self.url, from, to).await.map_err(of_node)
    }

    async fn delete(&self, name: &str) -> Result<(), Trouble> {
        match self.context.ollama.delete(self.url, name).await {
            Err(NodeError::Status { status: 404, .. }) | Ok(()) => Ok(()),
            Err(error) => Err(of_node(error)),
        }
    }
}

/// How a pull ended that did not succeed.
enum Ended {
    /// Ollama said why.
    Said(String),
    /// It was broken off.
    Trouble(Trouble),
}

impl Ended {
    /// What it means where the node speaks to the registry itself.
    fn direct(self) -> Trouble {
        match self {
            Self::Said(message) => Trouble::new(Fault::from_message(&message), message),
            Self::Trouble(trouble) => trouble,
        }
    }
}

fn of_node(error: NodeError) -> Trouble {
    let fault = match &error {
        NodeError::Status { message, .. } => Fault::from_message(message),
        NodeError::Connect(_) | NodeError::TimedOut(_) | NodeError::Broken(_) | NodeError::Throttled { .. } => {
            Fault::NodeAway
        }
    };
    Trouble::new(fault, error.to_string())
}

/// Host and port of the mirror, and whether it speaks plain http.
fn address(url: &str) -> (&str, bool) {
    let (host, insecure) = match url.split_once("://") {
        Some((scheme, host)) => (host, scheme.eq_ignore_ascii_case("http")),
        None => (url, true),
    };
    (host.split('/').next().unwrap_or(host), insecure)
}

/// The name by which a node pulls a model through the mirror.
fn transit(host: &str, token: &str, model: &str) -> String {
    match model.parse::<ModelName>() {
        Ok(name) => format!("{host}/{token}/{}:{}", name.model, name.tag),
        Err(_) => format!("{host}/{token}/{model}"),
    }
}

/// Starts attempts as their turns come, until `stop`.
pub async fn run_queue(context: Arc<Context>, stop: CancellationToken) {
    while let Some(turn) = stop.run_until_cancelled(context.pulling.next_turn()).await {
        context.jobs.start(turn.cancel.clone(), run(context.clone(), turn));
    }
}

impl Terms {
    /// What an object wants of a node now.
    pub fn new(pull: &ModelPull, node: &OllamaNode, route: Route) -> Self {
        let before = node.model(&pull.spec.model).map(|held| held.digest.clone());
        Self {
            pull: ObjectRef::from_obj(pull),
            spec: pull.spec.clone(),
            node: ObjectRef::from_obj(node),
            before,
            route,
        }
    }
}
