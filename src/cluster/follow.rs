//! The objects of one kind for a command that waits for something: as they are, and after each change.

use std::collections::BTreeMap;

use futures::{StreamExt, stream::BoxStream};
use kube::{Client, ResourceExt, core::DeserializeGuard};
use kube_runtime::{
    WatchStreamExt,
    watcher::{self, Event},
};

use super::{
    Kind,
    watch::{Reconnect, advice, readable},
};

/// Objects by namespace and name.
pub type Objects<K> = BTreeMap<(String, String), K>;

/// What a look at a kind gives.
pub enum Sight<'a, K> {
    /// All of the objects, as they are now.
    Objects(&'a Objects<K>),
    /// The watch broke; it is started again.
    Broken(String),
}

/// Follows a kind without writing anything, for as long as it is asked.
pub struct Follower<K: Kind> {
    events: BoxStream<'static, watcher::Result<Event<DeserializeGuard<K>>>>,
    objects: Objects<K>,
    arriving: Objects<K>,
    is_complete: bool,
}

impl<K: Kind> Follower<K>
where
    DeserializeGuard<K>: Kind,
{
    /// The objects of one namespace or of all, with these labels if a selector is given.
    pub fn new(client: &Client, namespace: Option<&str>, selector: Option<&str>) -> Self {
        let config = watcher::Config { label_selector: selector.map(str::to_owned), ..watcher::Config::default() };
        let events = watcher::watcher(super::api(client, namespace), config).backoff(Reconnect::default()).boxed();
        Self { events, objects: Objects::new(), arriving: Objects::new(), is_complete: false }
    }

    /// Waits for the first complete view, then for the next change.
    ///
    /// # Errors
    /// When there was no view yet and the API can't give one, or when it refuses to.
    pub async fn next(&mut self) -> Result<Sight<'_, K>, String> {
        loop {
            match self.events.next().await {
                Some(Ok(event)) => {
                    if readable(event).is_some_and(|event| self.take(event)) {
                        return Ok(Sight::Objects(&self.objects));
                    }
                }
                Some(Err(error)) => {
                    let advice = advice(&error);
                    let message = format!("reading {} objects: {error}{advice}", K::kind(&()));
                    return if self.is_complete && advice.is_empty() {
                        Ok(Sight::Broken(message))
                    } else {
                        Err(message)
                    };
                }
                None => return Err(format!("the watch of {} ended", K::kind(&()))),
            }
        }
    }

    /// Whether there is a complete view now.
    fn take(&mut self, event: Event<K>) -> bool {
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        match event {
            Event::Init => self.arriving.clear(),
            Event::InitApply(object) => {
                self.arriving.insert(key(&object), object);
            }
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.arriving);
                self.is_complete = true;
                return true;
            }
            Event::Apply(object) => {
                self.objects.insert(key(&object), object);
                return true;
            }
            Event::Delete(object) => {
                self.objects.remove(&key(&object));
                return true;
            }
        }
        false
    }
}
