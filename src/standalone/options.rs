//! What a list or a watch asks for besides the kind: from which revision, how much at once, what comes first.

use super::{
    request::{Request, Verb},
    status::{Cause, Failure},
};

const MATCH: &str = "resourceVersionMatch";

/// Which state a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The present one.
    Now,
    /// One that isn't older than this revision.
    NotOlderThan(u64),
    /// The one of this revision.
    Exactly(u64),
}

/// The options of a list.
#[derive(Debug)]
pub struct ListOptions {
    /// Which state is shown.
    pub from: From,
    /// How many objects at most; 0 for all.
    pub limit: usize,
}

/// The options of a watch.
#[derive(Debug)]
pub struct WatchOptions {
    /// Changes after this revision are shown; nothing for those after the present.
    pub after: Option<u64>,
    /// Whether what is there comes first, as additions.
    pub initial: bool,
    /// Whether the end of what is there is marked.
    pub marks_end: bool,
    /// Whether marks are sent from time to time.
    pub bookmarks: bool,
}

impl ListOptions {
    /// Reads the options.
    ///
    /// # Errors
    /// 400 or 422 when they make no sense.
    pub fn parse(request: &Request) -> Result<Self, Failure> {
        check(request)?;
        let revision =
            request.revision().map_err(|why| Failure::bad_request(format!("invalid resource version: {why}")))?;
        // For whoever takes any state there are no pages, as from the cache of a real API server.
        let asked = request.number("limit")?.filter(|_| revision != Some(0)).unwrap_or(0);
        let limit = usize::try_from(asked).unwrap_or(0);
        let from = match (revision, request.parameter(MATCH)) {
            (None | Some(0), _) => From::Now,
            (Some(revision), "Exact") => From::Exactly(revision),
            // As it was before there were words for it.
            (Some(revision), "") if limit > 0 => From::Exactly(revision),
            (Some(revision), _) => From::NotOlderThan(revision),
        };
        Ok(Self { from, limit })
    }
}

impl WatchOptions {
    /// Reads the options.
    ///
    /// # Errors
    /// 422 when they make no sense.
    pub fn parse(request: &Request) -> Result<Self, Failure> {
        check(request)?;
        let after = request.revision().map_err(Failure::plain)?;
        let bookmarks = request.flag("allowWatchBookmarks");
        let asked = (!request.parameter("sendInitialEvents").is_empty()).then(|| request.flag("sendInitialEvents"));
        let initial = asked.unwrap_or(matches!(after, None | Some(0)));
        let marks_end = bookmarks && initial;
        Ok(Self { after: after.filter(|revision| *revision > 0), initial, marks_end, bookmarks })
    }
}

/// Refuses options that contradict each other, in Kubernetes' words.
fn check(request: &Request) -> Result<(), Failure> {
    let causes = if request.verb == Verb::Watch { faults_of_watch(request) } else { faults_of_list(request) };
    if causes.is_empty() { Ok(()) } else { Err(Failure::bad_options("ListOptions", &causes)) }
}

fn faults_of_list(request: &Request) -> Vec<Cause> {
    let (given, revision) = (request.parameter(MATCH), request.parameter("resourceVersion"));
    let mut causes = Vec::new();
    if !given.is_empty() {
        if revision.is_empty() {
            causes
                .push(Cause::forbidden(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        causes.extend(fault_of_continue(request));
        if !matches!(given, "Exact" | "NotOlderThan") {
            causes.push(Cause::unsupported(MATCH, given, &["Exact", "NotOlderThan", ""]));
        }
        if given == "Exact" && revision == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(Cause::forbidden(MATCH, why));
        }
    }
    if !request.parameter("sendInitialEvents").is_empty() {
        causes.push(Cause::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    causes
}

fn faults_of_watch(request: &Request) -> Vec<Cause> {
    let (given, initial) = (request.parameter(MATCH), request.parameter("sendInitialEvents"));
    let mut causes = Vec::new();
    if !initial.is_empty() && given != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        causes.push(Cause::forbidden(MATCH, why));
    }
    if !given.is_empty() {
        if initial.is_empty() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(Cause::forbidden(MATCH, why));
        }
        if given != "NotOlderThan" {
            causes.push(Cause::unsupported(MATCH, given, &["NotOlderThan"]));
        }
        causes.extend(fault_of_continue(request));
    }
    causes
}

fn fault_of_continue(request: &Request) -> Option<Cause> {
    let given = !request.parameter("continue").is_empty();
    given.then(|| Cause::forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"))
}
