//! A tag that somebody wants looked up once more: what became of that.

/// What the mirror said since it was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    Awaited,
    /// That it can't say, and why.
    Refused(String),
    /// What the tag stands for; why that may be outdated, if it may.
    Given(Option<String>),
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Whether the node asks the registry itself, not through the mirror.
    pub is_direct: bool,
    /// Whether it can be asked now.
    pub is_usable: bool,
    /// Whether a node that asks itself did so since it was wanted.
    pub has_asked: bool,
    /// Whether it holds what is wanted of it, as far as that is known.
    pub is_ready: bool,
    /// Why its last try failed, while it waits for the next.
    pub failure: Option<&'a str>,
}

/// Where the request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Not answered yet.
    Awaited,
    /// Answered.
    Answered {
        /// Whether something of it is still to be done.
        is_pending: bool,
        /// Why the tag could not be looked up, if it could not.
        failure: Option<String>,
    },
}

/// What became of a request, by what the mirror and the nodes said. The mirror counts where a node pulls through it.
pub fn lookup(answer: &Answer, nodes: &[Asked<'_>]) -> Lookup {
    let refused = |why: &str| Lookup::Answered { is_pending: true, failure: Some(why.to_owned()) };
    let mut outdated = None;
    if nodes.iter().any(|node| !node.is_direct) {
        match answer {
            Answer::Awaited => return Lookup::Awaited,
            Answer::Refused(why) => return refused(why),
            Answer::Given(why) => outdated = why.clone(),
        }
    }
    let is_awaited = |node: &&Asked<'_>| node.is_direct && node.is_usable && !node.has_asked;
    if let Some(why) = nodes.iter().filter(is_awaited).find_map(|node| node.failure) {
        return refused(why);
    }
    if nodes.iter().any(|node| is_awaited(&node)) {
        return Lookup::Awaited;
    }
    let is_done = |node: &Asked<'_>| node.is_ready && (!node.is_direct || node.has_asked);
    Lookup::Answered { is_pending: !nodes.iter().all(is_done), failure: outdated }
}
