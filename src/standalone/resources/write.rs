//! Creating, replacing and patching.

use serde_json::{Value, json};

use super::{
    Answered, Core, Reply, builtin, events,
    object::{
        admit, check_object, decoded, drop_empty, in_part, nothing, now, random_letters, remove, reset_status, settled,
        text, uid,
    },
};
use crate::standalone::{
    kinds::{Kind, NAMESPACES},
    patch::{Manager, Managers, apply, json_patch, merge_patch, strategic_merge},
    request::{Request, Verb},
    schema::{self, Schema},
    status::{Cause, Failure},
    storage::{Entry, Expected, Refused, Write},
};

/// How often a change is decided again because the object changed meanwhile.
const ATTEMPTS: usize = 100;
const NAME_ATTEMPTS: usize = 8;

/// What a writer wants the object to be, and who owns which of its fields then.
struct Wanted {
    object: Value,
    managers: Managers,
    warnings: Vec<String>,
}

impl Core {
    /// Makes an object.
    pub async fn create(&self, request: &Request) -> Result<Reply, Failure> {
        let wanted = self.new_object(request, request.value()?)?;
        self.create_wanted(request, wanted).await
    }

    fn new_object(&self, request: &Request, object: Value) -> Result<Wanted, Failure> {
        let kind = &request.kind;
        let mut object = decoded(object, request)?;
        let warnings = admit(&mut object, request)?;
        if !text(&object["metadata"], "resourceVersion").is_empty() {
            return Err(Failure::plain("resourceVersion should not be set on objects to be created"));
        }
        reset_status(&mut object, None, kind);
        let mut managers = Managers::default();
        let schema = Schema::new(&kind.schema);
        managers.note_update(
            &nothing(kind),
            &events::as_shown(&object, kind),
            schema,
            &manager(request, false),
            &now(),
        );
        Ok(Wanted { object, managers, warnings })
    }

    async fn create_wanted(&self, request: &Request, wanted: Wanted) -> Result<Reply, Failure> {
        let (kind, Wanted { mut object, managers, warnings }) = (&request.kind, wanted);
        self.check_namespace(request, text(&object["metadata"], "name"))?;
        builtin::begin(&mut object, kind);
        let metadata = &mut object["metadata"];
        let generated = text(metadata, "name").is_empty().then(|| text(metadata, "generateName").to_owned());
        let generated = generated.filter(|prefix| !prefix.is_empty());
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
            remove(metadata, field);
        }
        metadata["uid"] = json!(uid());
        metadata["creationTimestamp"] = json!(now());
        if kind.has_generation {
            metadata["generation"] = json!(1);
        }
        if let Some(namespace) = &request.namespace {
            metadata["namespace"] = json!(namespace);
        }
        managers.write(&mut object);
        drop_empty(&mut object);
        for _ in 0..NAME_ATTEMPTS {
            if let Some(prefix) = &generated {
                object["metadata"]["name"] = json!(format!("{prefix}{}", random_letters()));
                if kind.plural == NAMESPACES {
                    builtin::fill_in(&mut object, kind);
                }
            }
            let name = text(&object["metadata"], "name").to_owned();
            check_object(&object, None, kind, &name)?;
            let path = kind.path(request.namespace.as_deref(), &name);
            let exists = || Failure::already_exists(kind, &name);
            if request.dry_run()? {
                let known = self.store.get(&kind.stored_as, &path).is_some();
                return if known {
                    Err(exists())
                } else {
                    Ok(Reply { code: 201, object: Answered::Other(object), warnings })
                };
            }
            let (resource, object) = (kind.stored_as.clone(), object.clone());
            let write = Write { resource, path, expected: Expected::Absent, object, delete: false };
            match self.store.commit(write).await {
                Ok(entry) => return Ok(Reply { code: 201, object: Answered::Stored(entry), warnings }),
                Err(Refused::Unexpected) if generated.is_some() => {}
                Err(Refused::Unexpected) => return Err(exists()),
                Err(Refused::Storage(why)) => return Err(Failure::not_stored(&why)),
            }
        }
        Err(Failure::already_exists(kind, &generated.unwrap_or_default()))
    }

    fn check_namespace(&self, request: &Request, name: &str) -> Result<(), Failure> {
        let Some(namespace) = &request.namespace else { return Ok(()) };
        let kind = &request.kind;
        let Some(entry) = self.store.get(NAMESPACES, namespace) else {
            let namespaces = self.kinds.stored_as(NAMESPACES).unwrap_or(kind);
            return Err(Failure::not_found(namespaces, namespace));
        };
        if entry.about.deleting {
            return Err(Failure::namespace_terminates(kind, name, namespace));
        }
        Ok(())
    }

    /// Replaces an object; of some kinds, makes it.
    pub async fn update(&self, request: &Request) -> Result<Reply, Failure> {
        let kind = &request.kind;
        let is_missing = || self.store.get(&kind.stored_as, &request.path()).is_none();
        if kind.made_by_update && request.subresource.is_empty() && is_missing() {
            let mut object = request.value()?;
            remove(&mut object["metadata"], "resourceVersion");
            let wanted = self.new_object(request, object)?;
            if wanted.object["metadata"]["name"] != request.name() {
                return Err(wrong_name(&wanted.object, request));
            }
            match self.create_wanted(request, wanted).await {
                Err(failure) if failure.reason == "AlreadyExists" => {}
                outcome => return outcome,
            }
        }
        let mut given = decoded(request.value()?, request)?;
        if given["metadata"]["name"] != request.name() {
            return Err(wrong_name(&given, request));
        }
        let warnings = admit(&mut given, request)?;
        let unconditional = kind.unconditional || request.subresource == "finalize";
        self.change(request, |live| {
            if text(&given["metadata"], "resourceVersion").is_empty() && !unconditional {
                let cause = Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
                return Err(Failure::invalid(kind, request.name(), &[cause]).with_resource(kind));
            }
            updated(live, given.clone(), request, warnings.clone())
        })
        .await
    }

    /// Changes an object in one of four ways.
    pub async fn patch(&self, request: &Request) -> Result<Reply, Failure> {
        let kind = &request.kind;
        let accepted = accepted_patches(kind);
        if !accepted.contains(&request.content_type.as_str()) {
            return Err(Failure::unsupported_media(accepted));
        }
        if request.content_type == "application/apply-patch+yaml" {
            return self.apply(request).await;
        }
        let patch = request.value().map_err(|_| Failure::bad_request("error decoding patch: it is not JSON"))?;
        self.change(request, |live| {
            let shown = events::as_shown(live, kind);
            let patched = match request.content_type.as_str() {
                "application/json-patch+json" => json_patch(&shown, patch.clone())?,
                "application/merge-patch+json" => {
                    let mut patched = shown.into_owned();
                    merge_patch(&mut patched, &patch);
                    patched
                }
                _ => strategic_merge(&shown, &patch, Schema::new(&kind.schema))?,
            };
            let mut object = decoded(patched, request)?;
            let warnings = admit(&mut object, request)?;
            updated(live, object, request, warnings)
        })
        .await
    }

    async fn apply(&self, request: &Request) -> Result<Reply, Failure> {
        let kind = &request.kind;
        if request.parameter("fieldManager").is_empty() {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(Failure::bad_options("PatchOptions", &[cause]));
        }
        let mut config = decoded(request.value()?, request)?;
        if config["metadata"]["managedFields"].is_array() {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        let unknown = schema::prune(&mut config, Schema::new(&kind.schema));
        if let Some(field) = unknown.first() {
            let metadata = &config["metadata"];
            return Err(Failure::plain(format!(
                "failed to create typed patch object ({}/{}; {}, Kind={}): .{field}: field not declared in schema",
                text(metadata, "namespace"),
                text(metadata, "name"),
                kind.api_version(),
                kind.kind
            )));
        }
        if config["metadata"]["name"] != request.name() {
            return Err(wrong_name(&config, request));
        }
        let exists = self.store.get(&kind.stored_as, &request.path()).is_some();
        if !exists && request.subresource.is_empty() {
            let applied = applied(&Value::Null, &config, Managers::default(), request)?;
            let mut object = applied.object;
            schema::fill_in(&mut object, Schema::new(&kind.schema));
            builtin::fill_in(&mut object, kind);
            reset_status(&mut object, None, kind);
            let wanted = Wanted { object, managers: applied.managers, warnings: Vec::new() };
            match self.create_wanted(request, wanted).await {
                Err(failure) if failure.reason == "AlreadyExists" => {}
                outcome => return outcome,
            }
        }
        self.change(request, |live| {
            let mut applied = applied(live, &config, Managers::of(live), request)?;
            schema::fill_in(&mut applied.object, Schema::new(&kind.schema));
            builtin::fill_in(&mut applied.object, kind);
            let object = in_part(live, applied.object, request);
            Ok(Wanted { object, managers: applied.managers, warnings: Vec::new() })
        })
        .await
    }

    /// Changes what is there by a decision that is made again if it changed meanwhile.
    async fn change(
        &self,
        request: &Request,
        decide: impl Fn(&Value) -> Result<Wanted, Failure>,
    ) -> Result<Reply, Failure> {
        let (kind, name) = (&request.kind, request.name());
        for _ in 0..ATTEMPTS {
            let entry = self.store.get(&kind.stored_as, &request.path());
            let entry = entry.ok_or_else(|| Failure::not_found(kind, name))?;
            let live = entry.value();
            let Wanted { object, managers, warnings } = decide(&live)?;
            let object = settled(&live, object, managers, request)?;
            let reply = |object| Reply { code: 200, object, warnings };
            if object == live || request.dry_run()? {
                return Ok(reply(Answered::Other(object)));
            }
            let last = ends(&entry, &object).then(|| object.clone());
            match self.store_change(&entry, object).await {
                Ok(stored) => return Ok(reply(last.map_or(Answered::Stored(stored), Answered::Other))),
                Err(Refused::Unexpected) => {}
                Err(Refused::Storage(why)) => return Err(Failure::not_stored(&why)),
            }
        }
        Err(Failure::modified(kind, name))
    }

    /// Stores an object in a new state; one that was only waiting for its finalizers goes, and watchers see it as it
    /// was with them.
    ///
    /// # Errors
    /// When it changed meanwhile, or can't be stored.
    pub async fn store_change(&self, entry: &Entry, object: Value) -> Result<std::sync::Arc<Entry>, Refused> {
        let delete = ends(entry, &object);
        let object = if delete { entry.value() } else { object };
        let (resource, path) = (entry.resource.clone(), entry.path.clone());
        self.store.commit(Write { resource, path, expected: Expected::Revision(entry.revision), object, delete }).await
    }
}

/// Whether an object goes with this change.
fn ends(entry: &Entry, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let waits = metadata["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
    let is_namespace = &*entry.resource == NAMESPACES;
    metadata["deletionTimestamp"].is_string() && !waits && !is_namespace
}

/// The media types of patches that a kind takes.
pub fn accepted_patches(kind: &Kind) -> &'static [&'static str] {
    const OWN: [&str; 4] = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ];
    const CUSTOM: [&str; 3] = [OWN[0], OWN[1], OWN[3]];
    if kind.custom { &CUSTOM } else { &OWN }
}

fn wrong_name(object: &Value, request: &Request) -> Failure {
    let wanted = request.name();
    Failure::bad_request(match text(&object["metadata"], "name") {
        "" => format!("the name of the object ({wanted} based on URL) was undeterminable: name must be provided"),
        name => format!("the name of the object ({name}) does not match the name on the URL ({wanted})"),
    })
}

fn manager(request: &Request, applies: bool) -> Manager {
    let (name, subresource) = (request.manager(), request.subresource.clone());
    Manager { name, applies, api_version: request.kind.api_version(), subresource }
}

fn applied(live: &Value, config: &Value, managers: Managers, request: &Request) -> Result<apply::Applied, Failure> {
    let (kind, force) = (&request.kind, request.flag("force"));
    let reset: &[&str] = match (kind.has_status, request.subresource.as_str()) {
        (true, "status") => &["f:spec", "f:metadata"],
        (true, _) => &["f:status"],
        _ => &[],
    };
    let revision = text(&config["metadata"], "resourceVersion");
    if !revision.is_empty() && live["metadata"]["resourceVersion"] != revision {
        return Err(Failure::modified(kind, request.name()));
    }
    let mut config = config.clone();
    for field in reset {
        let field = field.trim_start_matches("f:");
        if field == "metadata" {
            config["metadata"] = json!({});
        } else {
            remove(&mut config, field);
        }
    }
    let request = apply::Apply { config: &config, manager: &manager(request, true), force, reset, now: &now() };
    apply::apply(live, managers, &request, Schema::new(&kind.schema))
}

/// What an update or patch, but for an apply, makes of the object.
fn updated(live: &Value, given: Value, request: &Request, warnings: Vec<String>) -> Result<Wanted, Failure> {
    let kind = &request.kind;
    let revision = text(&given["metadata"], "resourceVersion");
    if !revision.is_empty() && live["metadata"]["resourceVersion"] != revision {
        return Err(Failure::modified(kind, request.name()));
    }
    let (uid, known) = (text(&given["metadata"], "uid"), text(&live["metadata"], "uid"));
    if uid != known && request.verb == Verb::Patch {
        let cause = Cause::invalid("metadata.uid", &given["metadata"]["uid"], "field is immutable");
        return Err(Failure::invalid(kind, request.name(), &[cause]));
    }
    if !uid.is_empty() && uid != known {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {known}");
        return Err(Failure::conflict(kind, request.name(), &why));
    }
    if given["metadata"]["name"] != live["metadata"]["name"] {
        let why = "the name of the object does not match the name on the URL";
        return Err(Failure::bad_request(why));
    }
    let managers = match given["metadata"]["managedFields"].is_array() {
        true => Managers::of(&given),
        false => Managers::of(live),
    };
    Ok(Wanted { object: in_part(live, given, request), managers, warnings }.noted(live, request))
}

impl Wanted {
    /// Notes what the writer changed.
    fn noted(mut self, live: &Value, request: &Request) -> Self {
        let [before, after] = [live, &self.object].map(|object| events::as_shown(object, &request.kind));
        let schema = Schema::new(&request.kind.schema);
        self.managers.note_update(&before, &after, schema, &manager(request, false), &now());
        self
    }
}
