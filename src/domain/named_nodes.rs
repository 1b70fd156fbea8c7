//! Ollama servers as people name them on a command line and in `OLLAMA_HOST`.

use core::net::{IpAddr, Ipv6Addr};
use std::{collections::BTreeMap, str::FromStr};

/// Where Ollama listens unless it is told otherwise.
const DEFAULT_PORT: u16 = 11434;

/// Nodes by name, written `NAME=URL,NAME=URL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedNodes(Vec<NamedNode>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedNode {
    /// The name of its object.
    pub name: String,
    /// Scheme, host, port and, where one was given, path.
    pub url: String,
}

/// Who made an OllamaNode that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// An earlier start, because it was named.
    Named,
    /// Somebody else.
    Other,
}

/// What is to be done so that the named nodes are there, and those of earlier starts no longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// These are applied, as made by whom they are, or will be.
    pub apply: Vec<(NamedNode, Maker)>,
    /// These are deleted.
    pub delete: Vec<String>,
}

impl NamedNodes {
    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What to do about them, given who made the nodes that are there. Where none is named, `usual` is one by the name
    /// of `local`, unless others have made nodes: then it stays if it is there, and comes only if it was asked for
    /// (`is_usual_asked_for`).
    pub fn changes(&self, usual: &str, is_usual_asked_for: bool, there: &BTreeMap<String, Maker>) -> Changes {
        let maker = |name: &str| there.get(name).copied();
        let local = NamedNode { name: "local".into(), url: usual.to_owned() };
        let is_local_wanted = is_usual_asked_for
            || maker(&local.name) == Some(Maker::Named)
            || !there.values().any(|maker| *maker == Maker::Other);
        let wanted = match self.0.as_slice() {
            [] if is_local_wanted => vec![local],
            named => named.to_vec(),
        };
        let made = there.iter().filter(|(_, maker)| **maker == Maker::Named).map(|(name, _)| name);
        let delete = made.filter(|name| !wanted.iter().any(|node| node.name == **name)).cloned().collect();
        let apply = wanted.into_iter().map(|node| (maker(&node.name).unwrap_or(Maker::Named), node));
        Changes { apply: apply.map(|(maker, node)| (node, maker)).collect(), delete }
    }
}

/// As much of Kubernetes' rule for names as an `OllamaNode` may have.
fn is_object_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let labels = || name.split('.');
    let is_label = |label: &str| label.starts_with(is_letter) && label.ends_with(is_letter);
    name.len() <= 63 && labels().all(is_label) && name.chars().all(|c| is_letter(c) || "-.".contains(c))
}

impl FromStr for NamedNodes {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut nodes: Vec<NamedNode> = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, url) = pair.split_once('=').ok_or(())?;
            let (name, server) = (name.trim(), Server::parse(url).ok_or(())?);
            let is_known = nodes.iter().any(|node| node.name == name);
            if is_known || !is_object_name(name) || !server.has_good_port || url.trim().is_empty() {
                return Err(());
            }
            nodes.push(NamedNode { name: name.to_owned(), url: server.url });
        }
        Ok(Self(nodes))
    }
}

/// A server that a text names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Scheme, host, port and, where one was given, path.
    pub url: String,
    /// Whether the port that was written, if one was, is a port. Ollama takes its own otherwise, and so does `url`.
    pub has_good_port: bool,
}

impl Default for Server {
    /// The one of this machine.
    fn default() -> Self {
        Self { url: format!("http://127.0.0.1:{DEFAULT_PORT}"), has_good_port: true }
    }
}

impl Server {
    /// The server that Ollama's own programs take this text for: `host`, `host:port`, `:port`, `[::1]:port`, each with
    /// or without a scheme and a path; empty: this machine. An address that stands for every address of a machine
    /// becomes this machine's own. `None` when no such server can be asked.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_matches(['"', '\'']).trim();
        let (scheme, rest, default_port) = match text.split_once("://") {
            None if text == "ollama.com" => ("https", text, 443),
            None => ("http", text, DEFAULT_PORT),
            Some(("http", rest)) => ("http", rest, 80),
            Some(("https", rest)) => ("https", rest, 443),
            Some(_) => return None,
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(authority);
        let number = port.map(str::parse::<u16>);
        let has_good_port = number.as_ref().is_none_or(Result::is_ok);
        let port = number.and_then(Result::ok).unwrap_or(default_port);
        let (host, path) = (written_host(host)?, path.trim_end_matches('/'));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._~/-".contains(c);
        if !path.chars().all(is_plain) || authority.contains('@') {
            return None;
        }
        let slash = if path.is_empty() { "" } else { "/" };
        Some(Self { url: format!("{scheme}://{host}:{port}{slash}{path}"), has_good_port })
    }
}

/// An IPv6 address may stand without brackets where no port follows it.
fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    if authority.parse::<Ipv6Addr>().is_ok() {
        return (authority, None);
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// The host as it stands in a URL; `None` when it is none.
fn written_host(host: &str) -> Option<String> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => Some("127.0.0.1".into()),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => Some("[::1]".into()),
        Ok(IpAddr::V4(address)) => Some(address.to_string()),
        Ok(IpAddr::V6(address)) => Some(format!("[{address}]")),
        Err(_) if host.is_empty() => Some("127.0.0.1".into()),
        Err(_) => {
            let is_letter = |c: char| c.is_ascii_alphanumeric();
            let is_name = host.starts_with(is_letter) && host.ends_with(is_letter);
            (is_name && host.chars().all(|c| is_letter(c) || ".-".contains(c))).then(|| host.to_owned())
        }
    }
}
