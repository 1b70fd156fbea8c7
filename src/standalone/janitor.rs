//! What a cluster's controllers do to objects: removes what a removed owner owned, empties namespaces that go, and
//! forgets old events.

use std::{sync::Weak, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::warn;

use super::{
    kinds::{Kind, NAMESPACES},
    resources::{Core, Removal},
    storage::{Change, Entry, Refused},
};

const EVENTS_LIVE: Duration = Duration::from_secs(60 * 60);
const TIDY_EVERY: Duration = Duration::from_secs(30);
const AT_ONCE: usize = 256;

/// Runs until the API is gone.
pub async fn run(core: Weak<Core>) {
    let Some((mut revisions, mut cursor)) = core.upgrade().map(|core| (core.store.revisions(), 0)) else { return };
    loop {
        revisions.borrow_and_update();
        loop {
            let Some(core) = core.upgrade() else { return };
            match core.store.changes_after(cursor, AT_ONCE) {
                Some((changes, reached)) => {
                    for change in &changes {
                        core.tidy_after(change).await;
                    }
                    cursor = reached;
                    if changes.len() < AT_ONCE {
                        break;
                    }
                }
                None => {
                    cursor = core.store.revision();
                    core.tidy_all().await;
                }
            }
        }
        if let Ok(Err(_)) = tokio::time::timeout(TIDY_EVERY, revisions.changed()).await {
            return;
        }
        if let Some(core) = core.upgrade() {
            core.forget_events().await;
        }
    }
}

impl Core {
    async fn tidy_after(&self, change: &Change) {
        let entry = &change.entry;
        if !change.deleted {
            self.tidy_one(entry).await;
            return;
        }
        for owned in self.store.owned_by(&entry.about.uid) {
            self.release(&owned).await;
        }
        for owner in &entry.about.owners {
            for owner in self.store.all(|candidate| candidate.about.uid == *owner) {
                self.tidy_one(&owner).await;
            }
        }
        if let Some(namespace) = entry.namespace()
            && let Some(namespace) = self.store.get(NAMESPACES, namespace)
        {
            self.tidy_one(&namespace).await;
        }
    }

    async fn tidy_all(&self) {
        for entry in self.store.all(|_| true) {
            self.tidy_one(&entry).await;
        }
    }

    /// Goes on with the removal of an object; removes one whose owners are gone.
    async fn tidy_one(&self, entry: &Entry) {
        // What is stored now counts, not what it was when it was noticed.
        let Some(entry) = self.store.get(&entry.resource, &entry.path) else { return };
        if !entry.about.owners.is_empty() {
            self.release(&entry).await;
        }
        if !entry.about.deleting {
            return;
        }
        let object = entry.value();
        let waits_for = |name: &str| {
            object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| finalizers.iter().any(|f| f == name))
        };
        if &*entry.resource == NAMESPACES {
            self.empty_namespace(&entry, &object).await;
        } else if waits_for("orphan") {
            for owned in self.store.owned_by(&entry.about.uid) {
                self.disown(&owned, &|uid| *uid == *entry.about.uid).await;
            }
            self.drop_finalizer(&entry, object, "orphan").await;
        } else if waits_for("foregroundDeletion") {
            let owned = self.store.owned_by(&entry.about.uid);
            for owned in &owned {
                self.remove_quietly(owned, Some("foregroundDeletion")).await;
            }
            if self.store.owned_by(&entry.about.uid).is_empty() {
                self.drop_finalizer(&entry, object, "foregroundDeletion").await;
            }
        }
    }

    async fn empty_namespace(&self, entry: &Entry, namespace: &Value) {
        for inside in self.store.within(entry.name()) {
            self.remove_quietly(&inside, None).await;
        }
        let waits = namespace["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
        if !waits && self.store.within(entry.name()).is_empty() {
            let outcome = self.write_removal(entry, namespace.clone(), true).await;
            report(entry, outcome.map(drop));
        }
    }

    /// Removes an object whose owners are all gone; from one that has others left, takes the references to those that are.
    async fn release(&self, entry: &Entry) {
        let object = entry.value();
        let references = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let gone: Vec<_> = references.iter().filter(|reference| self.is_gone(reference)).collect();
        let is_gone = |uid: &str| gone.iter().any(|reference| reference["uid"] == uid);
        if gone.is_empty() {
            return;
        }
        if gone.len() == references.len() {
            self.remove_quietly(entry, None).await;
        } else {
            self.disown(entry, &is_gone).await;
        }
    }

    /// Whether an owner is of a kind that is served here, and not there.
    fn is_gone(&self, reference: &Value) -> bool {
        let version = reference["apiVersion"].as_str().unwrap_or_default();
        let is_kind = |kind: &Kind| kind.kind == reference["kind"] && kind.api_version() == version;
        let served = self.kinds.all().iter().any(|kind| is_kind(kind));
        served && !self.store.has_uid(reference["uid"].as_str().unwrap_or_default())
    }

    async fn disown(&self, entry: &Entry, is_owner: &(dyn Fn(&str) -> bool + Sync)) {
        let mut object = entry.value();
        if let Some(references) = object["metadata"]["ownerReferences"].as_array_mut() {
            references.retain(|reference| !is_owner(reference["uid"].as_str().unwrap_or_default()));
        }
        let outcome = self.store_change(entry, object).await;
        report(entry, outcome.map(drop));
    }

    async fn drop_finalizer(&self, entry: &Entry, mut object: Value, name: &str) {
        if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
            finalizers.retain(|finalizer| finalizer != name);
        }
        if object["metadata"]["finalizers"] == json!([])
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.shift_remove("finalizers");
        }
        let outcome = self.store_change(entry, object).await;
        report(entry, outcome.map(drop));
    }

    async fn remove_quietly(&self, entry: &Entry, finalizer: Option<&'static str>) {
        let Some(kind) = self.kinds.stored_as(&entry.resource) else { return };
        let removal = Removal { uid: Some(entry.about.uid.to_string()), finalizer, ..Removal::default() };
        match self.remove(kind, &entry.path, &removal).await {
            Ok(_) => {}
            Err(failure) if matches!(failure.code, 404 | 409) => {}
            Err(failure) => warn!(object = %entry.path, why = failure.message, "an object could not be removed"),
        }
    }

    async fn forget_events(&self) {
        let limit = Timestamp::now().as_second() - EVENTS_LIVE.as_secs().cast_signed();
        for event in self.store.all(|entry| &*entry.resource == "events" && entry.written < limit) {
            self.remove_quietly(&event, None).await;
        }
    }
}

/// An object that changed meanwhile is looked at again because it did.
fn report(entry: &Entry, outcome: Result<(), Refused>) {
    if let Err(Refused::Storage(why)) = outcome {
        warn!(object = %entry.path, why, "an object could not be tidied up");
    }
}
