//! `ollama pull` and `ollama rm` for a whole fleet: what the caller hears of a ModelPull, what stands against a removal.

use super::{
    model_name::ModelName,
    pull::{Fault, Line, NodePhase, Phase},
};

/// The most characters of an object's name.
const LONGEST_NAME: usize = 63;
/// So many digits of the model's hash end the name: names that read alike after folding stay apart.
const HASH_DIGITS: usize = 8;
/// So many digits of a digest stand for it, as in Ollama's own progress lines.
const SHORT_DIGEST: usize = 12;
/// What Ollama says until it knows of bytes.
pub const STARTING: &str = "pulling manifest";
/// So many nodes are named in a sentence.
const NAMED: usize = 3;

/// The name of the ModelPull that callers of one namespace share for `model`, whichever way they spell it. `hash` is the hex
/// sha256 of [`identity`].
pub fn object_name(model: &ModelName, hash: &str) -> String {
    let spelled = short(model).to_ascii_lowercase();
    let folded: String = spelled.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let is_edge = |c: char| !c.is_ascii_alphanumeric();
    // In a DNS name, a label between dots begins and ends with a letter or digit.
    let words = folded.split('.').map(|word| word.trim_matches(is_edge)).filter(|word| !word.is_empty());
    let mut slug = words.collect::<Vec<_>>().join(".");
    slug.truncate(LONGEST_NAME - HASH_DIGITS - 1);
    let slug = slug.trim_end_matches(is_edge);
    let hash = &hash[..HASH_DIGITS.min(hash.len())];
    if slug.is_empty() { format!("model-{hash}") } else { format!("{slug}-{hash}") }
}

/// What is the same for every spelling of a model's name.
pub fn identity(model: &ModelName) -> String {
    model.to_string().to_ascii_lowercase()
}

/// Without the host and namespace that go without saying.
fn short(model: &ModelName) -> String {
    let full = model.to_string();
    let implied = ["registry.ollama.ai/library/", "registry.ollama.ai/"];
    implied.iter().find_map(|start| full.strip_prefix(start)).unwrap_or(&full).to_owned()
}

/// A ModelPull as its status has it.
#[derive(Clone, Debug, Default)]
pub struct SeenPull<'a> {
    /// The object's name.
    pub object: &'a str,
    /// The model.
    pub model: &'a str,
    /// Where it stands as a whole.
    pub phase: Phase,
    /// Percent over all nodes, where bytes are known.
    pub progress: Option<i64>,
    /// How many nodes must hold the model.
    pub desired: i64,
    /// How many do.
    pub ready: i64,
    /// The digest and the bytes on one node, once known.
    pub resolved: Option<(&'a str, i64)>,
    /// Whether its `timeout` is over.
    pub is_overdue: bool,
    /// The nodes, those that lack it first.
    pub nodes: Vec<SeenNode<'a>>,
}

/// One node's part of it.
#[derive(Clone, Copy, Debug)]
pub struct SeenNode<'a> {
    /// The node's name.
    pub name: &'a str,
    /// Where it stands there.
    pub phase: NodePhase,
    /// What is wrong there.
    pub fault: Option<Fault>,
    /// The same for people.
    pub message: &'a str,
    /// Whether the node can be pulled to now.
    pub is_usable: bool,
}

/// What somebody who waits for a pull hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It goes on; bytes are those over all nodes.
    Going(Line),
    /// Every node that can have it has it.
    Done {
        /// A sentence about those that get it later.
        later: Option<String>,
    },
    /// Waiting on is in vain.
    Failed {
        /// Why, and what to do.
        message: String,
        /// Whether nothing will ever come of the object as it is.
        is_hopeless: bool,
    },
}

/// What is to be told of a pull.
pub fn news(pull: &SeenPull<'_>) -> News {
    if pull.phase == Phase::Ready {
        return News::Done { later: None };
    }
    if pull.desired == 0 {
        let message = "no node is there for it: declare an OllamaNode, or check the nodeSelector of its ModelPull";
        return News::Failed { message: format!("{}: {message}", pull.model), is_hopeless: true };
    }
    if pull.phase == Phase::Suspended {
        let message = format!("ModelPull {} holds {}: set its spec.suspend to false", pull.object, pull.model);
        return News::Failed { message, is_hopeless: false };
    }
    if pull.phase == Phase::Pulling {
        return going(pull);
    }
    waiting(pull)
}

/// How a ModelPull that was declared comes by what its tag stands for.
#[derive(Clone, Copy, Debug)]
pub enum Declared<'a> {
    /// It names the digest.
    Pinned(&'a str),
    /// It looks the tag up this often.
    Follows(&'a str),
    /// It keeps what nodes have.
    Keeps,
}

/// Why a tag was not looked up again for who pulled it: somebody else declared what becomes of it.
pub fn not_looked_up(object: &str, declared: Declared<'_>) -> String {
    let why = match declared {
        Declared::Pinned(digest) => format!("it pins {digest}"),
        Declared::Follows(interval) => format!("it does so every {interval}"),
        Declared::Keeps => {
            format!("`kubectl annotate modelpull {object} --overwrite drover.dev/refresh=$(date +%s)` does that")
        }
    };
    format!("not looked up again, which is for ModelPull {object} to say: {why}")
}

/// Whether a line is worth saying after `told`: each status gets a line of its own on a screen. Counts of attempts in one,
/// and that all begins again, are not.
pub fn is_news(told: Option<&Line>, line: &Line) -> bool {
    let shape = |line: &Line| line.status.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    told.is_none_or(|told| {
        let moved = (&told.digest, told.total, told.completed) != (&line.digest, line.total, line.completed);
        line.status != STARTING && (moved || shape(told) != shape(line))
    })
}

/// The same where the tag is looked up again: how that ended counts before anything is over. `looked_up` is `None` where
/// nobody asked for it, else what it came to, once that is known: empty, or why it could not be done.
pub fn refreshed(news: News, looked_up: Option<Option<&str>>) -> Option<News> {
    match (looked_up, news) {
        (None, news) | (Some(_), news @ News::Going(_)) => Some(news),
        (Some(None), _) => None,
        (Some(Some(why)), News::Done { .. }) if !why.is_empty() => {
            let message = format!("the tag could not be looked up again: {why}; nodes keep what they have");
            Some(News::Failed { message, is_hopeless: false })
        }
        (Some(Some(_)), news) => Some(news),
    }
}

fn going(pull: &SeenPull<'_>) -> News {
    let Some(((digest, size), percent)) = pull.resolved.zip(pull.progress) else { return says(STARTING) };
    let hex = digest.trim_start_matches("sha256:");
    let total = size.saturating_mul(pull.desired);
    News::Going(Line {
        status: format!("pulling {}", hex.get(..SHORT_DIGEST).unwrap_or(hex)),
        digest: Some(digest.into()),
        total: Some(total),
        // By parts of a hundred first: the product of all three may not fit.
        completed: Some((total / 100).saturating_mul(percent.clamp(0, 100))),
        error: None,
    })
}

fn says(status: impl Into<String>) -> News {
    News::Going(Line { status: status.into(), ..Line::default() })
}

/// While bytes move nowhere.
fn waiting(pull: &SeenPull<'_>) -> News {
    let lacking: Vec<_> = pull.nodes.iter().filter(|node| node.phase != NodePhase::Ready).collect();
    let could: Vec<_> = lacking.iter().filter(|node| node.is_usable).collect();
    if could.is_empty() && pull.ready > 0 {
        return News::Done { later: Some(later(pull, &lacking)) };
    }
    let failed = could.iter().find(|node| node.phase == NodePhase::Failed).map(|node| told(node));
    let is_lasting = |node: &SeenNode<'_>| node.fault.is_some_and(Fault::needs_somebody);
    if let Some(message) = failed.clone().filter(|_| could.iter().all(|node| is_lasting(node))) {
        let count =
            if pull.ready > 0 { format!(" ({} of {} nodes have it)", pull.ready, pull.desired) } else { String::new() };
        return News::Failed { message: format!("{message}{count}"), is_hopeless: pull.ready == 0 };
    }
    let why = failed.or_else(|| could.is_empty().then(|| lacking.first().map(|node| told(node))).flatten());
    match why {
        Some(why) if pull.is_overdue => {
            let message = format!("{why}; Drover goes on trying: `ollama rm {}` gives it up", pull.model);
            News::Failed { message, is_hopeless: false }
        }
        Some(why) => says(why),
        None => says(STARTING),
    }
}

fn told(node: &SeenNode<'_>) -> String {
    format!("{}: {}", node.name, node.message)
}

fn later(pull: &SeenPull<'_>, lacking: &[&SeenNode<'_>]) -> String {
    let names = named(lacking.iter().map(|node| node.name));
    format!("{} of {} nodes have it; {names} will once ready again", pull.ready, pull.desired)
}

/// The first few of some names, and how many more there are.
fn named<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(NAMED);
    let first = names[..names.len().min(NAMED)].join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

/// What is known of a model that somebody wants removed.
#[derive(Clone, Debug, Default)]
pub struct Uses<'a> {
    /// The deployment that has this very name.
    pub deployment: Option<&'a str>,
    /// ModelPulls that want it and were not made by a caller's pull.
    pub pulls: Vec<&'a str>,
    /// ModelVersions made from it.
    pub versions: Vec<&'a str>,
    /// ModelDeployments that serve one of those.
    pub deployments: Vec<&'a str>,
}

/// Why a model may not be removed, if it may not.
pub fn obstacle(model: &str, uses: &Uses<'_>) -> Option<String> {
    if let Some(name) = uses.deployment {
        return Some(format!("{model} is a ModelDeployment: `kubectl delete modeldeployment {name}` ends it"));
    }
    let kinds = [("ModelDeployment", &uses.deployments), ("ModelVersion", &uses.versions), ("ModelPull", &uses.pulls)];
    let kinds = kinds.iter().filter(|(_, names)| !names.is_empty());
    let needs: Vec<String> = kinds.map(|(kind, names)| format!("{kind} {}", named(names.iter().copied()))).collect();
    (!needs.is_empty()).then(|| format!("{model} is needed by {}: delete that first", needs.join("; ")))
}

/// That a model stays on nodes, given by name and URL, which had it before Drover.
pub fn stays(model: &str, nodes: &[(&str, &str)]) -> Option<String> {
    let (_, url) = nodes.first()?;
    let names = named(nodes.iter().map(|(name, _)| *name));
    Some(format!(
        "{model} stays on {names}, where it was before Drover, which removes only what it put there: \
         `OLLAMA_HOST={url} ollama rm {model}` removes it there"
    ))
}
