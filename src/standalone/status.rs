//! Failures as the `Status` objects that clients of Kubernetes know: code, reason, message and causes.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use serde_json::{Value, json};

use super::kinds::Kind;

/// A request that was not carried out, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The HTTP status.
    pub code: u16,
    /// A word for programs, such as `NotFound`.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
    /// What it concerns: name, kind, causes; `continue` is where a list can go on all the same.
    pub details: Value,
}

/// One fault of one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// A word for programs, such as `FieldValueRequired`.
    pub reason: &'static str,
    /// The field's path, such as `spec.model`.
    pub field: String,
    /// What is wrong with it, without the path.
    pub message: String,
}

impl Cause {
    /// A field that must be there.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = if detail.is_empty() { "Required value".into() } else { format!("Required value: {detail}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// A field whose value is not allowed.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value}: {detail}") }
    }

    /// A field that must not be there.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {detail}") }
    }

    /// A field whose value another one has already.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self { reason: "FieldValueDuplicate", field: field.into(), message: format!("Duplicate value: {value}") }
    }

    /// A field whose value is none of those that it may have.
    pub fn unsupported(field: impl Into<String>, given: &str, supported: &[&str]) -> Self {
        let supported: Vec<_> = supported.iter().map(|value| format!("\"{value}\"")).collect();
        let message = format!("Unsupported value: \"{given}\": supported values: {}", supported.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    fn line(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }

    fn as_json(&self) -> Value {
        json!({ "reason": self.reason, "message": self.message, "field": self.field })
    }
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = json!({ "name": name, "group": kind.group, "kind": kind.plural });
        if kind.group.is_empty() {
            self.without("group");
        }
        self
    }

    fn without(&mut self, key: &str) {
        if let Some(details) = self.details.as_object_mut() {
            details.shift_remove(key);
        }
    }

    /// 404: no such object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", kind.resource())).about(kind, name)
    }

    /// 409: the name is taken.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", kind.resource())).about(kind, name)
    }

    /// 409: the object is not what the request was made for.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource());
        Self::new(409, "Conflict", message).about(kind, name)
    }

    /// 409: the object was changed since the client read it.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// 409: the object is not the one that was to be removed.
    pub fn precondition(kind: &Kind, name: &str, why: &str) -> Self {
        let label = label(&kind.kind, &kind.group);
        let message = format!("Operation cannot be fulfilled on {label} \"{name}\": {why}");
        let mut failure = Self::new(409, "Conflict", message).about(kind, name);
        failure.details["kind"] = json!(kind.kind);
        failure
    }

    /// 409: fields that other managers own, each with its owner and path.
    pub fn field_conflicts(message: String, causes: &[(String, String)]) -> Self {
        let causes: Vec<_> = causes
            .iter()
            .map(|(owner, path)| {
                json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {owner}"), "field": path })
            })
            .collect();
        Self { details: json!({ "causes": causes }), ..Self::new(409, "Conflict", message) }
    }

    /// 403: nobody may do that.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        Self::new(403, "Forbidden", format!("{} \"{name}\" is forbidden: {why}", kind.resource())).about(kind, name)
    }

    /// 403: the namespace is going away.
    pub fn namespace_terminates(kind: &Kind, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut failure = Self::forbidden(kind, name, &why);
        let message = format!("namespace {namespace} is being terminated");
        failure.details["causes"] =
            json!([{ "reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace" }]);
        failure
    }

    /// 422: the object breaks rules.
    pub fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        let lines: Vec<_> = causes.iter().map(Cause::line).collect();
        let all = if let [line] = &lines[..] { line.clone() } else { format!("[{}]", lines.join(", ")) };
        let label = label(&kind.kind, &kind.group);
        let mut failure = Self::new(422, "Invalid", format!("{label} \"{name}\" is invalid: {all}")).about(kind, name);
        failure.details["kind"] = json!(kind.kind);
        failure.details["causes"] = causes.iter().map(Cause::as_json).collect();
        if name.is_empty() {
            failure.without("name");
        }
        failure
    }

    /// The same, naming the resource in the place of the kind.
    pub fn with_resource(mut self, kind: &Kind) -> Self {
        self.message = self.message.replacen(&label(&kind.kind, &kind.group), &kind.resource(), 1);
        self.details["kind"] = json!(kind.plural);
        self
    }

    /// The same, naming another kind.
    pub fn with_kind(mut self, kind: &Kind, given: &str) -> Self {
        self.message = self.message.replacen(&kind.kind, given, 1);
        self.details["kind"] = json!(given);
        self
    }

    /// 422 for a patch that can't be carried out.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self { details: json!({}), ..Self::new(422, "Invalid", message) }
    }

    /// 422 for options that can't be meant: the group and kind of the options, and what is wrong.
    pub fn bad_options(options: &str, causes: &[Cause]) -> Self {
        let label = if options.is_empty() { String::new() } else { format!("{options}.meta.k8s.io") };
        let all: Vec<_> = causes.iter().map(Cause::as_json).collect();
        let mut details = json!({ "group": "meta.k8s.io", "kind": options, "causes": all });
        if options.is_empty() {
            details = json!({ "causes": all });
        }
        let lines: Vec<_> = causes.iter().map(Cause::line).collect();
        let lines = if let [line] = &lines[..] { line.clone() } else { format!("[{}]", lines.join(", ")) };
        Self { details, ..Self::new(422, "Invalid", format!("{label} \"\" is invalid: {lines}")) }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: no valid token.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 404: no such path.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self { details: json!({}), ..Self::new(404, "NotFound", message) }
    }

    /// 405: the resource has no such verb.
    pub fn not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self { details: json!({}), ..Self::new(405, "MethodNotAllowed", message) }
    }

    /// 406: none of the forms asked for can be given.
    pub fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, \
                       application/json;as=Table;v=v1;g=meta.k8s.io, \
                       application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io, \
                       application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
        Self::new(406, "NotAcceptable", message)
    }

    /// 410: the history that was asked for is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410: the rest of a list is asked for as it was at a time that is forgotten; with `next` it goes on as it is now.
    pub fn expired_page(next: &str) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start \
                       a new list without the continue parameter, or use the continue token in this response to \
                       retrieve the remainder of the results. Continuing with the provided token results in an \
                       inconsistent list - objects that were created, modified, or deleted between the time the first \
                       chunk was returned and now may show up in the list.";
        Self { details: json!({ "continue": next }), ..Self::expired(message) }
    }

    /// 413: the body is longer than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415: the body is of a kind that is not understood.
    pub fn unsupported_media(accepted: &[&str]) -> Self {
        let accepted = accepted.join(", ");
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 500: the server's own fault.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// 500 without a reason, in the server's own words.
    pub fn plain(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 504: the revision that was asked for is yet to come.
    pub fn too_new(wanted: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        let cause = json!({ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" });
        Self { details: json!({ "causes": [cause], "retryAfterSeconds": 1 }), ..Self::new(504, "Timeout", message) }
    }

    /// 504: it took too long.
    pub fn timeout() -> Self {
        let message = "Timeout: request did not complete within the allotted timeout";
        Self { details: json!({}), ..Self::new(504, "Timeout", message) }
    }

    /// 507: the state can't be written to disk; reads go on.
    pub fn not_stored(why: &str) -> Self {
        Self::new(507, "InsufficientStorage", format!("the change was not stored: {why}"))
    }

    /// The `Status` object.
    pub fn as_status(&self) -> Value {
        let goes_on = self.details["continue"].is_string();
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": if goes_on { self.details.clone() } else { json!({}) },
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": if goes_on { Value::Null } else { self.details.clone() },
            "code": self.code,
        });
        if let Some(fields) = status.as_object_mut() {
            fields.retain(|name, value| !(name == "details" && value.is_null() || name == "reason" && *value == ""));
        }
        status
    }

    /// The answer that carries it.
    pub fn response(&self) -> Response<Body> {
        json_response(self.code, &self.as_status())
    }
}

fn label(kind: &str, group: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") }
}

/// An answer with a JSON body.
pub fn json_response(code: u16, body: &Value) -> Response<Body> {
    json_text(code, Body::from(body.to_string()))
}

/// An answer with a body that is JSON already.
pub fn json_text(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
