//! Model names as Ollama reads them: `[host[:port]/][namespace/]model[:tag]`.
//!
//! Source of the rules: Ollama's `types/model/name.go` (defaults `registry.ollama.ai`, `library`, `latest`).

use std::{fmt, str::FromStr};

/// The registry of names that say none.
pub const DEFAULT_HOST: &str = "registry.ollama.ai";
const DEFAULT_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";

/// What the API server accepts as a model name: [`ModelName::from_str`] accepts all of it, and of what Ollama takes
/// besides only host names leave something out.
pub const PATTERN: &str = r"^(([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/)?[A-Za-z0-9_][A-Za-z0-9_-]*/)?[A-Za-z0-9_][A-Za-z0-9._-]*(:[A-Za-z0-9_][A-Za-z0-9._-]*)?$";
/// The same as a rule in CEL.
pub const RULE: &str = r"self.matches('^(([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/)?[A-Za-z0-9_][A-Za-z0-9_-]*/)?[A-Za-z0-9_][A-Za-z0-9._-]*(:[A-Za-z0-9_][A-Za-z0-9._-]*)?$')";
/// What to write instead of what breaks the rule.
pub const FORM: &str = "a model must look like llama3.2:3b, namespace/model:tag or host/namespace/model:tag";

/// A fully qualified model name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName {
    /// The registry's host and, where given, port.
    pub host: String,
    /// The namespace within the registry.
    pub namespace: String,
    /// The model's own name.
    pub model: String,
    /// The tag.
    pub tag: String,
}

impl ModelName {
    /// Whether two spellings name the same model: `llama3.2` and `registry.ollama.ai/library/llama3.2:latest` do.
    /// Ollama compares without regard to case.
    pub fn same(a: &str, b: &str) -> bool {
        a == b
            || matches!((parts(a), parts(b)), (Ok(a), Ok(b)) if a.iter().zip(b).all(|(a, b)| a.eq_ignore_ascii_case(b)))
    }
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [host, namespace, model, tag] = parts(text).map_err(|what| {
            format!(
                "{text:?} is not a model name ({what}): write model:tag, namespace/model:tag or host/namespace/model:tag"
            )
        })?;
        Ok(Self { host: host.into(), namespace: namespace.into(), model: model.into(), tag: tag.into() })
    }
}

/// Host, namespace, model and tag, or what is wrong.
fn parts(text: &str) -> Result<[&str; 4], &'static str> {
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (text, DEFAULT_TAG),
    };
    let mut words = path.splitn(4, '/');
    let (host, namespace, model) = match [words.next(), words.next(), words.next(), words.next()] {
        [Some(model), None, ..] => (DEFAULT_HOST, DEFAULT_NAMESPACE, model),
        [Some(namespace), Some(model), None, _] => (DEFAULT_HOST, namespace, model),
        [Some(host), Some(namespace), Some(model), None] => (host, namespace, model),
        _ => return Err("it has more than three parts"),
    };
    let word = |part: &str, extra: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    };
    let faults = [
        (word(host, "-_.:"), "bad host"),
        (word(namespace, "-_"), "bad namespace"),
        (word(model, "-_."), "bad model"),
        (word(tag, "-_."), "bad tag"),
    ];
    match faults.into_iter().find(|(fine, _)| !fine) {
        Some((_, what)) => Err(what),
        None => Ok([host, namespace, model, tag]),
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}:{}", self.host, self.namespace, self.model, self.tag)
    }
}
