//! Which registry a model comes from, and under which name.

use std::{fmt, str::FromStr};

use super::model_name::{DEFAULT_HOST, ModelName};

/// Registries by the beginnings of models' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstreams(Vec<(Vec<String>, Base)>);

/// A registry, and what comes before each repository's name in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Base {
    scheme: &'static str,
    host: String,
    /// Without slashes at its ends; may be empty.
    path: String,
}

/// A model at a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Scheme and authority of the registry's URL.
    pub url: String,
    /// Host and, where given, port.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

impl Upstreams {
    /// Where a model comes from: the upstream with the longest beginning of its name, else the registry that the name
    /// says (by http if that is `insecure`), else Ollama's own.
    ///
    /// # Errors
    /// A sentence, when `model` is not a model's name.
    pub fn source(&self, model: &str, insecure: bool) -> Result<Source, String> {
        let name: ModelName = model.parse()?;
        let path = model.strip_suffix(&format!(":{}", name.tag)).unwrap_or(model);
        let written: Vec<&str> = path.split('/').collect();
        let has_host = !name.host.eq_ignore_ascii_case(DEFAULT_HOST);
        let mut full = vec![name.namespace.as_str(), &name.model];
        if has_host {
            full.insert(0, &name.host);
        }
        let fits = |prefix: &[String]| begins(&written, prefix) || begins(&full, prefix);
        let own = |(prefix, _): &&(Vec<String>, Base)| fits(prefix) && !(prefix.is_empty() && has_host);
        let chosen = self.0.iter().filter(own).max_by_key(|(prefix, _)| prefix.len());
        let base = chosen.map(|(_, base)| base.clone()).unwrap_or_else(|| Base {
            scheme: if insecure && has_host { "http" } else { "https" },
            host: name.host.clone(),
            path: String::new(),
        });
        let before = if base.path.is_empty() { String::new() } else { format!("{}/", base.path) };
        Ok(Source {
            url: format!("{}://{}", base.scheme, base.host),
            repository: format!("{before}{}/{}", name.namespace, name.model),
            host: base.host,
            tag: name.tag,
        })
    }
}

impl Upstreams {
    /// The root of each registry that was given, with what comes before repositories there as its repository.
    pub fn all(&self) -> Vec<Source> {
        let root = |(_, base): &(Vec<String>, Base)| Source {
            url: format!("{}://{}", base.scheme, base.host),
            host: base.host.clone(),
            repository: base.path.clone(),
            tag: String::new(),
        };
        let mut roots: Vec<Source> = Vec::new();
        for source in self.0.iter().map(root) {
            if !roots.contains(&source) {
                roots.push(source);
            }
        }
        roots
    }

    /// The name, without a tag, by which people get a repository of a root's registry; none if there is no such name.
    pub fn named(&self, root: &Source, repository: &str) -> Option<(String, Source)> {
        let rest = match root.repository.as_str() {
            "" => repository,
            path => repository.strip_prefix(path)?.strip_prefix('/')?,
        };
        let hosts = self.0.iter().filter_map(|(prefix, _)| prefix.first()).filter(|first| first.contains(['.', ':']));
        let names = std::iter::once(rest.to_owned()).chain(hosts.map(|host| format!("{host}/{rest}")));
        let fits = |name: String| {
            let source = self.source(&name, false).ok()?;
            (source.url == root.url && source.repository == repository).then_some((name, source))
        };
        names.into_iter().find_map(fits)
    }
}

fn begins(path: &[&str], prefix: &[String]) -> bool {
    prefix.len() <= path.len() && prefix.iter().zip(path).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

impl FromStr for Upstreams {
    type Err = String;

    /// Reads `PREFIX=URL,PREFIX=URL`; an empty prefix is what every name without a host begins with.
    fn from_str(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let mut upstreams: Vec<(Vec<String>, Base)> = Vec::new();
        for entry in entries {
            let (prefix, url) = entry.split_once('=').ok_or_else(|| format!("{entry:?} is not PREFIX=URL"))?;
            let parts = prefix.trim().split('/').filter(|part| !part.is_empty());
            let prefix: Vec<String> = parts.map(str::to_owned).collect();
            if upstreams.iter().any(|(other, _)| *other == prefix) {
                return Err(format!("the prefix {:?} is given twice", prefix.join("/")));
            }
            upstreams.push((prefix, url.trim().parse()?));
        }
        Ok(Self(upstreams))
    }
}

impl FromStr for Base {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let fault = || format!("{url:?} is not the URL of a registry: write http:// or https://, host and path only");
        let schemes = ["https", "http"];
        let found = schemes.iter().find_map(|scheme| Some((*scheme, url.strip_prefix(scheme)?.strip_prefix("://")?)));
        let (scheme, rest) = found.ok_or_else(fault)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse::<u16>().map(|_| ()).map_err(|_| fault())),
            _ => (host, Ok(())),
        };
        port?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        let is_path = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
        if name.is_empty() || !name.chars().all(is_host) || !path.chars().all(is_path) {
            return Err(fault());
        }
        Ok(Self { scheme, host: host.into(), path: path.trim_matches('/').into() })
    }
}

impl Source {
    /// Where its manifest is, by tag or digest.
    pub fn manifest_url(&self, reference: &str) -> String {
        format!("{}/v2/{}/manifests/{reference}", self.url, self.repository)
    }

    /// Where a blob of it is.
    pub fn blob_url(&self, digest: &str) -> String {
        format!("{}/v2/{}/blobs/{digest}", self.url, self.repository)
    }
}

impl fmt::Display for Source {
    /// As people know it, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.host, self.repository, self.tag)
    }
}
