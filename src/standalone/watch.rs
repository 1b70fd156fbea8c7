//! Streams of changes. Each watcher has a place in the history and reads on from there at its own pace; one that falls
//! so far behind that the history is forgotten is told so and starts again.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, header},
};
use futures::stream;
use serde_json::{Value, json};
use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep_until},
};

use super::{
    kinds::Kind,
    options::WatchOptions,
    request::{Form, Request},
    resources::{Core, in_form, is_as_stored, shown_entry},
    selector::Selector,
    status::Failure,
    storage::{Change, Entry, Listing, Store},
};

const AT_ONCE: usize = 256;
/// About how much of what is there at the beginning is said at once, in bytes.
const PIECE: usize = 64 * 1024;
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
const DEFAULT_SECONDS: u64 = 30 * 60;

/// Marks an answer that goes on for as long as its client likes.
#[derive(Clone, Copy, Debug)]
pub struct Endless;

struct Watcher {
    store: Store,
    revisions: Receiver<u64>,
    kind: Arc<Kind>,
    prefix: String,
    selector: Selector,
    form: Form,
    include: String,
    cursor: u64,
    bookmarks: bool,
    ends: Instant,
    next_bookmark: Instant,
    /// What was there at the beginning and is still to be said.
    initial: std::vec::IntoIter<Arc<Entry>>,
    marks_end_of_initial: bool,
    waiting: Vec<u8>,
    /// Whether the columns of a table were told: only its first event has them.
    has_columns: bool,
    done: bool,
}

/// Begins to watch.
///
/// # Errors
/// 400 when the request makes no sense.
pub fn start(store: &Store, request: &Request) -> Result<Response<Body>, Failure> {
    let kind = &request.kind;
    let selector = Selector::parse(request.parameter("labelSelector"), request.parameter("fieldSelector"), kind)?;
    let revisions = store.revisions();
    let options = WatchOptions::parse(request)?;
    let seconds = request.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    let seconds = seconds.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_SECONDS);
    let now = Instant::now();
    let mut watcher = Watcher {
        store: store.clone(),
        revisions,
        kind: kind.clone(),
        prefix: Core::listed_prefix(request),
        selector,
        form: request.form,
        include: request.parameter("includeObject").to_owned(),
        cursor: options.after.unwrap_or_else(|| store.revision()),
        bookmarks: options.bookmarks,
        ends: now + Duration::from_secs(seconds),
        next_bookmark: now + BOOKMARK_EVERY,
        initial: Vec::new().into_iter(),
        marks_end_of_initial: options.marks_end,
        waiting: Vec::new(),
        has_columns: false,
        done: false,
    };
    if options.initial {
        let Listing { entries, revision } = store.list(&kind.stored_as, &watcher.prefix, "");
        (watcher.initial, watcher.cursor) = (entries.into_iter(), revision);
    }
    let chunks = stream::unfold(watcher, |mut watcher| async move {
        let chunk = watcher.next().await?;
        Some((Ok::<_, Infallible>(chunk), watcher))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    response.extensions_mut().insert(Endless);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

impl Watcher {
    /// Says some of what was there at the beginning.
    fn begin(&mut self) {
        while self.waiting.len() < PIECE
            && let Some(entry) = self.initial.next()
        {
            if self.allows(&entry) {
                self.say("ADDED", &entry);
            }
        }
        if self.initial.as_slice().is_empty() && std::mem::take(&mut self.marks_end_of_initial) {
            self.bookmark(true);
        }
    }

    /// The next piece of the stream; nothing at its end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.begin();
            if !self.waiting.is_empty() {
                return Some(std::mem::take(&mut self.waiting).into());
            }
            if self.done {
                return None;
            }
            self.revisions.borrow_and_update();
            self.read_on();
            if !self.waiting.is_empty() || self.done {
                continue;
            }
            tokio::select! {
                changed = self.revisions.changed() => self.done = changed.is_err(),
                () = sleep_until(self.ends.min(self.next_bookmark)) => {
                    self.done = self.ends <= self.next_bookmark;
                    self.next_bookmark += BOOKMARK_EVERY;
                    if self.bookmarks {
                        self.bookmark(false);
                    }
                }
            }
        }
    }

    fn read_on(&mut self) {
        loop {
            let Some((changes, reached)) = self.store.changes_after(self.cursor, AT_ONCE) else {
                let message = format!("too old resource version: {} ({})", self.cursor, self.store.revision());
                self.write(&json!({ "type": "ERROR", "object": Failure::expired(message).as_status() }));
                self.done = true;
                return;
            };
            for change in &changes {
                self.tell(change);
            }
            self.cursor = reached;
            if changes.len() < AT_ONCE || !self.waiting.is_empty() {
                return;
            }
        }
    }

    fn tell(&mut self, change: &Change) {
        let Change { entry, deleted, before } = change;
        if entry.resource != self.kind.stored_as || !entry.path.starts_with(&self.prefix) {
            return;
        }
        // Without the state before, it counts as one that was seen.
        let was = before.as_ref().map(|before| self.allows(before));
        let is = !deleted && self.allows(entry);
        match (was, is) {
            (Some(false), true) | (None, true) => self.say("ADDED", entry),
            (Some(true), true) => self.say("MODIFIED", entry),
            (Some(true), false) if *deleted => self.say("DELETED", entry),
            // It is there no more for this watcher: the last state that it knew, as of now.
            (Some(true), false) => {
                let mut object = before.as_ref().unwrap_or(entry).value();
                object["metadata"]["resourceVersion"] = json!(entry.revision.to_string());
                self.tell_of("DELETED", object);
            }
            (None, false) if *deleted => self.say("DELETED", entry),
            (Some(false) | None, false) => {}
        }
    }

    fn allows(&self, entry: &Entry) -> bool {
        self.selector.allows(&entry.about.labels, || shown_entry(entry, &self.kind))
    }

    fn say(&mut self, event: &str, entry: &Entry) {
        if self.form == Form::Object && is_as_stored(&self.kind) {
            self.waiting.extend_from_slice(format!("{{\"type\":\"{event}\",\"object\":").as_bytes());
            entry.body.append_to(&mut self.waiting);
            self.waiting.extend_from_slice(b"}\n");
            return;
        }
        self.tell_of(event, entry.value());
    }

    fn tell_of(&mut self, event: &str, object: Value) {
        let mut object = in_form(object, &self.kind, self.form, &self.include);
        if self.form == Form::Table && std::mem::replace(&mut self.has_columns, true) {
            object["columnDefinitions"] = Value::Null;
        }
        self.write(&json!({ "type": event, "object": object }));
    }

    fn bookmark(&mut self, ends_initial: bool) {
        let mut metadata = json!({ "resourceVersion": self.cursor.to_string() });
        if ends_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({ "kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata });
        self.tell_of("BOOKMARK", object);
    }

    fn write(&mut self, event: &Value) {
        self.waiting.extend_from_slice(event.to_string().as_bytes());
        self.waiting.push(b'\n');
    }
}
