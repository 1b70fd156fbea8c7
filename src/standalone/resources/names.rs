//! What names, labels and annotations may look like.

use serde_json::{Value, json};

use crate::standalone::{kinds::Kind, status::Cause};

const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const KEY_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SERVICE_NAME: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
/// The most that all annotations of an object may take, in bytes.
const ANNOTATIONS: usize = 256 * 1024;

/// Everything that is wrong with an object's name, labels, annotations and finalizers.
pub fn check_metadata(object: &Value, kind: &Kind) -> Vec<Cause> {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let mut causes = Vec::new();
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Some(detail) = wrong_name(name, kind) {
        causes.push(Cause::invalid("metadata.name", &json!(name), &detail));
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        causes.extend(wrong_key(key).map(|detail| Cause::invalid("metadata.labels", &json!(key), &detail)));
        let text = value.as_str().unwrap_or_default();
        if text.len() > 63 {
            let message = "Too long: may not be more than 63 bytes".into();
            causes.push(Cause { reason: "FieldValueTooLong", field: "metadata.labels".into(), message });
        } else if !(text.is_empty() || is_name(text)) {
            causes.push(Cause::invalid("metadata.labels", value, LABEL_VALUE));
        }
    }
    let annotations = metadata["annotations"].as_object();
    for key in annotations.into_iter().flat_map(|annotations| annotations.keys()) {
        let wrong = wrong_key(&key.to_lowercase());
        causes.extend(wrong.map(|detail| Cause::invalid("metadata.annotations", &json!(key), &detail)));
    }
    let size: usize = annotations.into_iter().flatten().map(|(key, value)| key.len() + text_length(value)).sum();
    if size > ANNOTATIONS {
        let message = format!("Too long: may not be more than {ANNOTATIONS} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: "metadata.annotations".into(), message });
    }
    for finalizer in metadata["finalizers"].as_array().into_iter().flatten() {
        let wrong = wrong_key(finalizer.as_str().unwrap_or_default());
        causes.extend(wrong.map(|detail| Cause::invalid("metadata.finalizers", finalizer, &detail)));
    }
    causes
}

fn text_length(value: &Value) -> usize {
    value.as_str().unwrap_or_default().len()
}

fn wrong_name(name: &str, kind: &Kind) -> Option<String> {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends_well = name.starts_with(alphanumeric) && name.ends_with(alphanumeric);
    let is_label = ends_well && name.chars().all(|c| alphanumeric(c) || c == '-');
    let is_subdomain = name.split('.').all(|part| {
        part.starts_with(alphanumeric)
            && part.ends_with(alphanumeric)
            && part.chars().all(|c| alphanumeric(c) || c == '-')
    });
    let (fits, words, limit) = match kind.plural.as_str() {
        "namespaces" => (is_label, LABEL, 63),
        "services" => (is_label && name.starts_with(|c: char| c.is_ascii_lowercase()), SERVICE_NAME, 63),
        _ => (is_subdomain, SUBDOMAIN, 253),
    };
    if name.len() > limit {
        return Some(format!("must be no more than {limit} characters"));
    }
    (!fits).then(|| words.to_owned())
}

fn wrong_key(key: &str) -> Option<String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if name.is_empty() {
        return Some("name part must be non-empty".into());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 characters".into());
    }
    if !is_name(name) {
        return Some(KEY_NAME.into());
    }
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = prefix.is_none_or(|prefix| {
        prefix
            .split('.')
            .all(|part| part.starts_with(lower) && part.ends_with(lower) && part.chars().all(|c| lower(c) || c == '-'))
    });
    (!fits).then(|| format!("prefix part {SUBDOMAIN}"))
}

fn is_name(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(inside)
}
