//! Creating, replacing and patching.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Core, Reply, builtin, events, names};
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
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const GENERATED_LETTERS: usize = 5;
/// What of `metadata` an update can't change.
const SERVERS_OWN: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "namespace",
    "selfLink",
];

/// The time, as objects have it.
pub fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A random identifier.
pub fn uid() -> String {
    let bits: u128 = (rand::random::<u128>() & !(0xf << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A text field, or empty.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

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
        managers.note_update(&nothing(kind), &object, schema, &manager(request, false), &now());
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
                return if known { Err(exists()) } else { Ok(Reply { code: 201, object, warnings }) };
            }
            let (resource, object) = (kind.stored_as.clone(), object.clone());
            let write = Write { resource, path, expected: Expected::Absent, object, delete: false };
            match self.store.commit(write).await {
                Ok(entry) => return Ok(Reply { code: 201, object: entry.value(), warnings }),
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
        if entry.value()["metadata"]["deletionTimestamp"].is_string() {
            return Err(Failure::namespace_terminates(kind, name, namespace));
        }
        Ok(())
    }

    /// Replaces an object.
    pub async fn update(&self, request: &Request) -> Result<Reply, Failure> {
        let kind = &request.kind;
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
        let accepted = match kind.custom {
            true => {
                &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"][..]
            }
            false => &[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
                "application/apply-patch+yaml",
            ],
        };
        if !accepted.contains(&request.content_type.as_str()) {
            return Err(Failure::unsupported_media(accepted));
        }
        if request.content_type == "application/apply-patch+yaml" {
            return self.apply(request).await;
        }
        let patch = request.value().map_err(|_| Failure::bad_request("error decoding patch: it is not JSON"))?;
        self.change(request, |live| {
            let shown = events::shown(live.clone(), kind);
            let patched = match request.content_type.as_str() {
                "application/json-patch+json" => json_patch(&shown, patch.clone())?,
                "application/merge-patch+json" => {
                    let mut patched = shown;
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
            return Err(Failure::bad_options("PatchOptions", &cause));
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
            let mut plain = live.clone();
            remove(&mut plain["metadata"], "managedFields");
            let mut applied = applied(&plain, &config, Managers::of(live), request)?;
            schema::fill_in(&mut applied.object, Schema::new(&kind.schema));
            builtin::fill_in(&mut applied.object, kind);
            Ok(Wanted { object: applied.object, managers: applied.managers, warnings: Vec::new() })
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
                return Ok(reply(object));
            }
            match self.store_change(&entry, object).await {
                Ok(stored) => return Ok(reply(stored.value())),
                Err(Refused::Unexpected) => {}
                Err(Refused::Storage(why)) => return Err(Failure::not_stored(&why)),
            }
        }
        Err(Failure::modified(kind, name))
    }

    /// Stores an object in a new state; one that was only waiting for its finalizers goes.
    ///
    /// # Errors
    /// When it changed meanwhile, or can't be stored.
    pub async fn store_change(&self, entry: &Entry, object: Value) -> Result<std::sync::Arc<Entry>, Refused> {
        let metadata = &object["metadata"];
        let waits = metadata["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
        let is_namespace = &*entry.resource == NAMESPACES;
        let delete = metadata["deletionTimestamp"].is_string() && !waits && !is_namespace;
        let (resource, path) = (entry.resource.clone(), entry.path.clone());
        self.store.commit(Write { resource, path, expected: Expected::Revision(entry.revision), object, delete }).await
    }
}

/// `metadata` keeps nothing that is empty.
fn drop_empty(object: &mut Value) {
    let is_empty = |value: &Value| {
        value.is_null() || value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
    };
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|_, value| !is_empty(value));
    }
}

fn wrong_name(object: &Value, request: &Request) -> Failure {
    let wanted = request.name();
    Failure::bad_request(match text(&object["metadata"], "name") {
        "" => format!("the name of the object ({wanted} based on URL) was undeterminable: name must be provided"),
        name => format!("the name of the object ({name}) does not match the name on the URL ({wanted})"),
    })
}

fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove(field);
    }
}

fn random_letters() -> String {
    let letter = |_| char::from(NAME_LETTERS[usize::from(rand::random::<u8>()) % NAME_LETTERS.len()]);
    (0..GENERATED_LETTERS).map(letter).collect()
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

/// What a new object is compared with: for a built-in kind, its parts are there and empty.
fn nothing(kind: &Kind) -> Value {
    if kind.custom {
        return Value::Null;
    }
    let parts = ["metadata", "spec", "status"].into_iter().filter(|part| kind.schema["properties"][part].is_object());
    Value::Object(parts.map(|part| (part.to_owned(), json!({}))).collect())
}

/// The object of a request, in the form that is stored, if it is one of its kind.
fn decoded(object: Value, request: &Request) -> Result<Value, Failure> {
    let kind = &request.kind;
    let mut object = object;
    if !object.is_object() {
        return Err(Failure::bad_request("the object provided is unrecognized: it is not a map"));
    }
    let (given, wanted) = (text(&object, "apiVersion").to_owned(), kind.api_version());
    if given != wanted && (kind.custom || !given.is_empty()) {
        return Err(Failure::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({wanted})"
        )));
    }
    let given = text(&object, "kind").to_owned();
    if given != kind.kind && (kind.custom || !given.is_empty()) {
        let cause = Cause::invalid("kind", &json!(given), &format!("must be {}", kind.kind));
        let name = text(&object["metadata"], "name").to_owned();
        return Err(Failure::invalid(kind, &name, &[cause]).with_kind(kind, &given));
    }
    object["apiVersion"] = json!(wanted);
    object["kind"] = json!(kind.kind);
    if object["metadata"].is_null() {
        object["metadata"] = Map::new().into();
    }
    let metadata = schema::check(&object["metadata"], Schema::new(&kind.schema).field("metadata"), "metadata");
    if let Some(cause) = metadata.iter().find(|cause| cause.reason == "FieldValueTypeInvalid") {
        let (name, version) = (&kind.kind, &kind.version);
        return Err(Failure::bad_request(format!(
            "{name} in version \"{version}\" cannot be handled as a {name}: {}: {}",
            cause.field, cause.message
        )));
    }
    let namespace = text(&object["metadata"], "namespace");
    if !namespace.is_empty() && request.namespace.as_deref() != Some(namespace) {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::bad_request(why));
    }
    let mut object = events::stored(object, kind);
    if &*kind.stored_as == "events" {
        object["apiVersion"] = json!("v1");
    }
    Ok(object)
}

/// Drops unknown fields, or refuses them, and fills in defaults.
fn admit(object: &mut Value, request: &Request) -> Result<Vec<String>, Failure> {
    let kind = &request.kind;
    if &*kind.stored_as == "events" {
        return Ok(Vec::new());
    }
    let schema = Schema::new(&kind.schema);
    let mut unknown = schema::prune(object, schema);
    for name in duplicates(request) {
        unknown.push(name);
    }
    let faults: Vec<_> = unknown
        .iter()
        .map(|path| match path.strip_prefix('=') {
            Some(path) => format!("duplicate field \"{path}\""),
            None => format!("unknown field \"{path}\""),
        })
        .collect();
    schema::fill_in(object, schema);
    builtin::fill_in(object, kind);
    match request.parameter("fieldValidation") {
        _ if faults.is_empty() => Ok(faults),
        "Strict" if request.verb == Verb::Patch => {
            let detail = format!("strict decoding error: {}", faults.join(", "));
            Err(Failure::bad_options("", &Cause::invalid("patch", &json!("{}"), &detail)))
        }
        "Strict" => {
            let (name, version, faults) = (&kind.kind, &kind.version, faults.join(", "));
            Err(Failure::bad_request(format!(
                "{name} in version \"{version}\" cannot be handled as a {name}: strict decoding error: {faults}"
            )))
        }
        "Ignore" => Ok(Vec::new()),
        _ => Ok(faults),
    }
}

/// The paths of fields that stand twice in one map of the body, each after `=`.
fn duplicates(request: &Request) -> Vec<String> {
    let is_object = matches!(request.content_type.as_str(), "application/json" | "");
    let found = if is_object { schema::duplicates(&request.body) } else { Vec::new() };
    found.into_iter().map(|path| format!("={path}")).collect()
}

/// Takes status out of a main request's hands, or all else out of a status request's.
fn reset_status(object: &mut Value, live: Option<&Value>, kind: &Kind) {
    if !kind.has_status {
        return;
    }
    match live.map(|live| &live["status"]).filter(|status| !status.is_null()) {
        Some(status) => object["status"] = status.clone(),
        None => remove(object, "status"),
    }
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
        let (mut before, mut after) = (live.clone(), self.object.clone());
        remove(&mut before["metadata"], "managedFields");
        remove(&mut after["metadata"], "managedFields");
        let schema = Schema::new(&request.kind.schema);
        self.managers.note_update(&before, &after, schema, &manager(request, false), &now());
        self
    }
}

/// The live object with that part of the given one that the request may write.
fn in_part(live: &Value, given: Value, request: &Request) -> Value {
    let mut object = given;
    match request.subresource.as_str() {
        "status" => {
            let status = object["status"].take();
            object = live.clone();
            if status.is_null() {
                remove(&mut object, "status");
            } else {
                object["status"] = status;
            }
        }
        "finalize" => {
            let finalizers = object["spec"]["finalizers"].take();
            object = live.clone();
            object["spec"]["finalizers"] = finalizers;
        }
        _ => reset_status(&mut object, Some(live), &request.kind),
    }
    object
}

/// The object as it will be stored: the server's own fields put right, and every rule checked.
fn settled(live: &Value, object: Value, managers: Managers, request: &Request) -> Result<Value, Failure> {
    let kind = &request.kind;
    let mut object = in_part(live, object, request);
    for field in SERVERS_OWN {
        match live["metadata"].get(field) {
            Some(value) => object["metadata"][field] = value.clone(),
            None => remove(&mut object["metadata"], field),
        }
    }
    object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    if kind.has_generation && spec_differs(live, &object) {
        let generation = live["metadata"]["generation"].as_i64().unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + 1);
    }
    managers.write(&mut object);
    drop_empty(&mut object);
    check_object(&object, Some(live), kind, request.name())?;
    Ok(object)
}

fn spec_differs(live: &Value, object: &Value) -> bool {
    let parts = |object: &Value| {
        let fields = object.as_object().into_iter().flatten();
        let kept = fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>()
    };
    parts(live) != parts(object)
}

fn check_object(object: &Value, live: Option<&Value>, kind: &Kind, name: &str) -> Result<(), Failure> {
    let mut causes = names::check_metadata(object, kind);
    causes.extend(live.and_then(|live| new_finalizers(object, live)));
    if &*kind.stored_as != "events" {
        let faults = schema::check(object, Schema::new(&kind.schema), "");
        causes.extend(faults.into_iter().filter(|cause| kind.custom || !cause.field.starts_with("metadata.")));
    }
    if let Some(live) = live {
        causes.retain(|cause| !schema::is_unchanged(&cause.field, live, object));
    }
    causes.extend(builtin::check(object, live, kind));
    if kind.has_rules {
        if causes.iter().any(schema::blocks_rules) {
            causes.push(Cause::invalid("<nil>", &Value::Null, schema::BLOCKED));
        } else {
            causes.extend(schema::check_rules(&kind.rules, object, live));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(Failure::invalid(kind, name, &causes)) }
}

fn new_finalizers(object: &Value, live: &Value) -> Option<Cause> {
    if !live["metadata"]["deletionTimestamp"].is_string() {
        return None;
    }
    let known = live["metadata"]["finalizers"].as_array();
    let given = object["metadata"]["finalizers"].as_array()?;
    let new: Vec<_> = given.iter().filter(|name| known.is_none_or(|known| !known.contains(name))).collect();
    let list = new.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
    );
    (!new.is_empty()).then(|| Cause::forbidden("metadata.finalizers", &detail))
}
