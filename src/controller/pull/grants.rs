//! What the mirror lets nodes pull. It is asked once for a model as an object wants it, however many nodes lack it, and
//! what it refuses is kept from all of them until the next try.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::Context;
use crate::{
    api::{ModelPull, OllamaNode, UpdatePolicy},
    cluster,
    domain::{
        alias,
        model_name::{DEFAULT_HOST, ModelName},
        pull::{self, Failure, Fault, elapsed},
        url,
    },
    ports::{GrantedModel, Login, Mirror, MirrorError, PullGrant},
};

/// The mirror is asked about so many models at once.
const AT_ONCE: usize = 32;
/// An attempt begins with what the mirror said at most so long ago.
const FRESH: Duration = Duration::from_secs(60);
/// Checks are spread by a tenth of the interval, so that many objects don't ask all at once.
const JITTER: f64 = 0.1;

/// Where nodes reach the mirror.
pub struct Addresses {
    /// Anywhere.
    pub advertised: String,
    /// On the controller's machine, where it is another address there.
    pub nearby: Option<String>,
}

impl Addresses {
    /// For a node at this URL. One that is reached by a loopback address is on the controller's machine.
    fn for_node(&self, url: &str) -> &str {
        self.nearby.as_ref().filter(|_| url::is_loopback(url)).unwrap_or(&self.advertised)
    }
}

/// The mirror, and what it said.
pub struct Grants {
    mirror: Arc<dyn Mirror>,
    addresses: Addresses,
    key: Vec<u8>,
    states: Mutex<States>,
    at_once: Semaphore,
}

#[derive(Default)]
struct States {
    by_token: HashMap<String, State>,
    /// The token of each object.
    tokens: HashMap<ObjectRef<ModelPull>, String>,
}

#[derive(Default)]
struct State {
    wanted_by: HashSet<ObjectRef<ModelPull>>,
    asking: bool,
    known: Option<(GrantedModel, Timestamp)>,
    failure: Option<Failure>,
    asked_at: Option<Timestamp>,
    next_check: Option<Timestamp>,
}

/// What is known of one token.
#[derive(Clone, Default)]
pub struct Grant {
    /// What the tag stood for when it was last asked.
    pub known: Option<GrantedModel>,
    /// Whether that is new enough to begin with.
    pub is_fresh: bool,
    /// Why it was refused, the last time.
    pub failure: Option<Failure>,
    /// When it was asked what was answered last.
    pub asked_at: Option<Timestamp>,
    /// When a tag that is followed is looked up again.
    pub next_check: Option<Timestamp>,
}

/// A model as an object wants it.
#[derive(Clone)]
pub struct Request {
    /// What stands for it in the names that nodes pull.
    pub token: String,
    namespace: String,
    secret: Option<String>,
    grant: PullGrant,
    waits: (Duration, Duration),
    interval: Option<Duration>,
}

/// Why an attempt or a question failed.
pub struct Trouble {
    /// What happened.
    pub fault: Fault,
    /// In words.
    pub message: String,
    /// When whoever refused asked to come back.
    pub retry_after: Option<Duration>,
}

impl Trouble {
    /// One without a time to come back.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into(), retry_after: None }
    }
}

impl From<MirrorError> for Trouble {
    fn from(error: MirrorError) -> Self {
        let words = error.to_string();
        match error {
            MirrorError::Unreachable(_) => Self::new(Fault::MirrorUnreachable, words),
            MirrorError::Refused { .. } => Self::new(Fault::Other, words),
            MirrorError::Pull { fault, message, retry_after } => Self { fault, message, retry_after },
        }
    }
}

impl Grants {
    /// A mirror that was not asked anything yet. `key` makes tokens unguessable; the same one gives the same tokens.
    pub fn new(mirror: Arc<dyn Mirror>, addresses: Addresses, key: Vec<u8>) -> Self {
        Self { mirror, addresses, key, states: Mutex::default(), at_once: Semaphore::new(AT_ONCE) }
    }

    /// Where a node reaches the mirror: as its spec says, else by its address.
    pub fn mirror_for(&self, node: &OllamaNode) -> String {
        let own = node.spec.mirror.as_ref().and_then(|mirror| mirror.url.clone());
        own.unwrap_or_else(|| self.addresses.for_node(&node.spec.url).to_owned())
    }

    /// What to ask for an object. `id` is this installation's part of names.
    pub fn request(&self, pull: &ModelPull, id: &str) -> Request {
        let (spec, namespace) = (&pull.spec, pull.namespace().unwrap_or_default());
        let secret = spec.pull_secret.as_ref().map(|secret| secret.name.clone());
        let mut hash = Sha256::new_with_prefix(&self.key);
        let insecure = if spec.insecure { "insecure" } else { "" };
        let texts =
            [&namespace, &spec.model, insecure, secret.as_deref().unwrap_or(""), spec.digest.as_deref().unwrap_or("")];
        for text in texts {
            // No text has this byte in it, so no two lists of texts give the same bytes.
            hash.update([0]);
            hash.update(text);
        }
        let hex = hash.finalize().iter().take(16).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        Request {
            token: alias::token(id, &hex),
            namespace,
            secret,
            grant: PullGrant {
                model: spec.model.clone(),
                insecure: spec.insecure,
                login: None,
                digest: spec.digest.clone(),
            },
            waits: (spec.retry.initial_delay.0, spec.retry.max_delay.0),
            interval: (spec.update_policy == UpdatePolicy::Always).then_some(spec.check_interval.0),
        }
    }

    /// What is known of a model that an object wants. One that it wants no longer is taken back, once nobody does.
    /// `was_checked`: whether the tag was looked up before, maybe by an earlier process.
    pub fn look(
        &self,
        context: &Context,
        pull: &ObjectRef<ModelPull>,
        request: &Request,
        was_checked: bool,
        now: Timestamp,
    ) -> Grant {
        self.leave(context, pull, Some(&request.token));
        let mut states = self.states();
        states.tokens.insert(pull.clone(), request.token.clone());
        let state = states.by_token.entry(request.token.clone()).or_default();
        state.wanted_by.insert(pull.clone());
        if let Some(interval) = request.interval {
            // At the start many objects would ask at once.
            let first = if was_checked { interval.mul_f64(rand::random()) } else { Duration::ZERO };
            let latest = if state.next_check.is_none() { first } else { interval.mul_f64(1.0 + JITTER) };
            let latest = now.saturating_add(latest).unwrap_or(Timestamp::MAX);
            state.next_check = Some(state.next_check.map_or(latest, |at| at.min(latest)));
        }
        Grant {
            known: state.known.as_ref().map(|(model, _)| model.clone()),
            is_fresh: state.known.as_ref().is_some_and(|(_, at)| elapsed(*at, now) < FRESH),
            failure: state.failure.clone(),
            asked_at: state.asked_at,
            next_check: request.interval.and(state.next_check),
        }
    }

    /// An object's spec changed: what was refused is asked again now.
    pub fn retry_now(&self, pull: &ObjectRef<ModelPull>, now: Timestamp) {
        let mut states = self.states();
        let Some(token) = states.tokens.get(pull).cloned() else { return };
        if let Some(failure) = states.by_token.get_mut(&token).and_then(|state| state.failure.as_mut()) {
            failure.retry_at = now;
        }
    }

    /// An object wants no model any more, or none but that of one token.
    pub fn leave(&self, context: &Context, pull: &ObjectRef<ModelPull>, but: Option<&String>) {
        let Some(token) = self.unwanted(pull, but) else { return };
        let mirror = self.mirror.clone();
        context.jobs.start(CancellationToken::new(), async move {
            if let Err(error) = mirror.revoke(&token).await {
                info!(%error, "a pull that nobody wants stays granted until the mirror forgets it");
            }
        });
    }

    /// The token that an object wanted, unless it is `but`, if nobody else wants it.
    fn unwanted(&self, pull: &ObjectRef<ModelPull>, but: Option<&String>) -> Option<String> {
        let mut states = self.states();
        if states.tokens.get(pull) == but {
            return None;
        }
        let token = states.tokens.remove(pull)?;
        let state = states.by_token.get_mut(&token)?;
        state.wanted_by.remove(pull);
        if !state.wanted_by.is_empty() {
            return None;
        }
        states.by_token.remove(&token);
        Some(token)
    }

    /// Asks, unless somebody does already; the objects that want it are looked at again afterwards.
    pub fn ask(self: &Arc<Self>, context: &Arc<Context>, request: Request) {
        match self.states().by_token.get_mut(&request.token) {
            Some(state) if !state.asking => state.asking = true,
            _ => return,
        }
        let (grants, context) = (self.clone(), context.clone());
        let jobs = context.jobs.clone();
        jobs.start(CancellationToken::new(), async move {
            // Its outcome is kept for whoever looks.
            let _ = grants.renew(&context, &request).await;
            let wanted_by = match grants.states().by_token.get_mut(&request.token) {
                Some(state) => {
                    state.asking = false;
                    state.wanted_by.clone()
                }
                None => HashSet::new(),
            };
            for pull in wanted_by {
                context.pokes.pull(pull);
            }
        });
    }

    /// What the model stands for, asked now unless that was just done.
    pub async fn fresh(&self, context: &Context, request: &Request) -> Result<GrantedModel, Trouble> {
        let known = self.states().by_token.get(&request.token).and_then(|state| state.known.clone());
        match known {
            Some((model, at)) if elapsed(at, Timestamp::now()) < FRESH => Ok(model),
            _ => self.renew(context, request).await,
        }
    }

    /// What the model stood for when it was last asked.
    pub fn known(&self, request: &Request) -> Option<GrantedModel> {
        self.states().by_token.get(&request.token)?.known.as_ref().map(|(model, _)| model.clone())
    }

    /// Asks what the model stands for, and has nodes pull exactly that.
    pub async fn renew(&self, context: &Context, request: &Request) -> Result<GrantedModel, Trouble> {
        let asked_at = Timestamp::now();
        let result = self.question(context, request).await;
        let now = Timestamp::now();
        let mut states = self.states();
        let Some(state) = states.by_token.get_mut(&request.token) else { return result };
        state.asked_at = Some(asked_at);
        match &result {
            Ok(model) => {
                state.known = Some((model.clone(), now));
                state.failure = None;
            }
            Err(trouble) => {
                let failures = state.failure.as_ref().map_or(0, |failure| failure.failures) + 1;
                let wait =
                    pull::retry_after(trouble.fault, failures, request.waits, trouble.retry_after, rand::random());
                let (model, reason) = (&request.grant.model, trouble.fault.reason());
                warn!(model, reason, message = trouble.message, ?wait, "the mirror can't let nodes pull it");
                let retry_at = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
                let message = trouble.message.clone();
                state.failure = Some(Failure::after(state.failure.as_ref(), trouble.fault, message, retry_at));
            }
        }
        if let Some(interval) = request.interval {
            let spread = 1.0 + JITTER * (2.0 * rand::random::<f64>() - 1.0);
            state.next_check = now.saturating_add(interval.mul_f64(spread)).ok();
        }
        result
    }

    async fn question(&self, context: &Context, request: &Request) -> Result<GrantedModel, Trouble> {
        let login = match &request.secret {
            Some(secret) => Some(login(context, request, secret).await?),
            None => None,
        };
        let _turn = self.at_once.acquire().await;
        let grant = PullGrant { login, ..request.grant.clone() };
        Ok(self.mirror.grant(&request.token, grant).await?)
    }

    fn states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The login at the model's registry, read now: nothing of it is kept.
async fn login(context: &Context, request: &Request, secret: &str) -> Result<Login, Trouble> {
    let host = request.grant.model.parse::<ModelName>().map_or_else(|_| DEFAULT_HOST.into(), |name| name.host);
    // A name without a host may be any registry's that the mirror stands for.
    let host = (host != DEFAULT_HOST).then_some(host);
    let login = cluster::registry_login(&context.client, &request.namespace, secret, host.as_deref()).await;
    login.map_err(|message| Trouble::new(Fault::PullSecret, message))
}
