//! Removing objects: at once, or when their finalizers are done.

use axum::{body::Body, http::Response};
use serde_json::{Value, json};

use super::{
    Answered, Core, Reply,
    object::{now, text},
    read::list_response,
};
use crate::standalone::{
    kinds::{Kind, NAMESPACES},
    request::Request,
    status::Failure,
    storage::{Entry, Expected, Refused, Write},
};

const ATTEMPTS: usize = 100;
/// The namespaces that stay.
const KEPT: [&str; 3] = ["default", "kube-system", "kube-public"];

/// How an object is to be removed.
#[derive(Clone, Debug, Default)]
pub struct Removal {
    /// The only object that is meant.
    pub uid: Option<String>,
    /// The only state of it that is meant.
    pub revision: Option<String>,
    /// A finalizer that the removal waits for: `orphan` or `foregroundDeletion`.
    pub finalizer: Option<&'static str>,
    /// Whether nothing shall be kept.
    pub dry_run: bool,
}

/// What became of an object.
pub enum Removed {
    /// It is gone; this was its last state.
    Gone(Value),
    /// It waits for finalizers.
    Waits(Value),
}

impl Removal {
    fn parse(request: &Request) -> Result<Self, Failure> {
        // Where there is a body, it says everything.
        let has_body = !request.body.is_empty();
        let options = if has_body { request.value()? } else { json!({}) };
        let policy =
            if has_body { text(&options, "propagationPolicy") } else { request.parameter("propagationPolicy") };
        let orphans = options["orphanDependents"] == true || !has_body && request.flag("orphanDependents");
        let finalizer = match policy {
            "Orphan" => Some("orphan"),
            "Foreground" => Some("foregroundDeletion"),
            _ if orphans => Some("orphan"),
            _ => None,
        };
        let dry_run = if has_body { options["dryRun"] == json!(["All"]) } else { request.dry_run()? };
        let condition = |name: &str| options["preconditions"][name].as_str().map(str::to_owned);
        Ok(Self { uid: condition("uid"), revision: condition("resourceVersion"), finalizer, dry_run })
    }

    fn check(&self, object: &Value, kind: &Kind, name: &str) -> Result<(), Failure> {
        let known = text(&object["metadata"], "uid");
        if let Some(uid) = self.uid.as_deref().filter(|uid| *uid != known) {
            let why = format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({known}). The object might have been deleted and then recreated"
            );
            return Err(Failure::precondition(kind, name, &why));
        }
        let known = text(&object["metadata"], "resourceVersion");
        if let Some(revision) = self.revision.as_deref().filter(|revision| *revision != known) {
            let why = format!(
                "the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record ({known}). The object might have been modified"
            );
            return Err(Failure::precondition(kind, name, &why));
        }
        Ok(())
    }
}

impl Core {
    /// Removes an object.
    pub async fn delete(&self, request: &Request) -> Result<Reply, Failure> {
        let kind = &request.kind;
        let removal = Removal::parse(request)?;
        if kind.plural == NAMESPACES && KEPT.contains(&request.name()) {
            return Err(Failure::forbidden(kind, request.name(), "this namespace may not be deleted"));
        }
        let object = match self.remove(kind, &request.path(), &removal).await? {
            Removed::Waits(object) => object,
            Removed::Gone(object) if kind.plural == "services" => object,
            Removed::Gone(object) => success(kind, &object),
        };
        Ok(Reply { code: 200, object: Answered::Other(object), warnings: Vec::new() })
    }

    /// Removes the objects that a request selects; answers with what they were.
    pub async fn delete_collection(&self, request: &Request) -> Result<Response<Body>, Failure> {
        let removal = Removal::parse(request)?;
        let (entries, metadata) = self.page(request)?;
        for entry in &entries {
            match self.remove(&request.kind, &entry.path, &removal).await {
                Err(failure) if failure.code != 404 => return Err(failure),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(list_response(request, entries, &metadata))
    }

    /// Removes one object, or marks it as to be removed.
    ///
    /// # Errors
    /// 404 when it is not there, 409 when it is not the one that is meant.
    pub async fn remove(&self, kind: &Kind, path: &str, removal: &Removal) -> Result<Removed, Failure> {
        let name = path.rsplit('/').next().unwrap_or_default();
        for _ in 0..ATTEMPTS {
            let entry = self.store.get(&kind.stored_as, path).ok_or_else(|| Failure::not_found(kind, name))?;
            let live = entry.value();
            removal.check(&live, kind, name)?;
            let object = marked(&live, kind, removal.finalizer);
            let waits = object["metadata"]["deletionTimestamp"].is_string();
            if object == live && waits {
                return Ok(Removed::Waits(live));
            }
            if removal.dry_run {
                return Ok(if waits { Removed::Waits(object) } else { Removed::Gone(object) });
            }
            match self.write_removal(&entry, object, !waits).await {
                Ok(stored) if waits => return Ok(Removed::Waits(stored.value())),
                Ok(stored) => return Ok(Removed::Gone(stored.value())),
                Err(Refused::Unexpected) => {}
                Err(Refused::Storage(why)) => return Err(Failure::not_stored(&why)),
            }
        }
        Err(Failure::modified(kind, name))
    }

    /// Stores the mark, or removes the object for good.
    ///
    /// # Errors
    /// When it changed meanwhile, or can't be stored.
    pub async fn write_removal(
        &self,
        entry: &Entry,
        object: Value,
        delete: bool,
    ) -> Result<std::sync::Arc<Entry>, Refused> {
        let (resource, path) = (entry.resource.clone(), entry.path.clone());
        self.store.commit(Write { resource, path, expected: Expected::Revision(entry.revision), object, delete }).await
    }
}

/// The object with the mark that it is to be removed, if anything must happen before.
fn marked(live: &Value, kind: &Kind, finalizer: Option<&str>) -> Value {
    let mut object = live.clone();
    let metadata = &mut object["metadata"];
    let mut finalizers = metadata["finalizers"].as_array().cloned().unwrap_or_default();
    if let Some(finalizer) = finalizer.filter(|finalizer| !finalizers.iter().any(|known| known == finalizer)) {
        finalizers.push(json!(finalizer));
    }
    let is_namespace = kind.plural == NAMESPACES;
    if finalizers.is_empty() && !is_namespace {
        return object;
    }
    if !finalizers.is_empty() {
        metadata["finalizers"] = json!(finalizers);
    }
    if !metadata["deletionTimestamp"].is_string() {
        metadata["deletionTimestamp"] = json!(now());
        if !is_namespace {
            metadata["deletionGracePeriodSeconds"] = json!(0);
        }
        if let Some(generation) = metadata["generation"].as_i64() {
            metadata["generation"] = json!(generation + 1);
        }
    }
    if is_namespace {
        object["status"]["phase"] = json!("Terminating");
    }
    object
}

fn success(kind: &Kind, object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut details =
        json!({ "name": metadata["name"], "group": kind.group, "kind": kind.plural, "uid": metadata["uid"] });
    if kind.group.is_empty()
        && let Some(details) = details.as_object_mut()
    {
        details.shift_remove("group");
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}
