//! Label and field selectors.

use std::fmt;

use serde_json::Value;

use super::{kinds::Kind, status::Failure, storage::Labels};

/// Which objects are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: LabelSelector,
    fields: Vec<(String, bool, String)>,
}

/// Which labels are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

impl Requirement {
    fn allows<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let is_one_of = |values: &[String], value: &str| values.iter().any(|one| one == value);
        match self {
            Self::In(key, values) => label(key).is_some_and(|value| is_one_of(values, value)),
            Self::NotIn(key, values) => label(key).is_none_or(|value| !is_one_of(values, value)),
            Self::Exists(key) => label(key).is_some(),
            Self::Missing(key) => label(key).is_none(),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(key, values) => write!(f, "{key} in ({})", values.join(",")),
            Self::NotIn(key, values) => write!(f, "{key} notin ({})", values.join(",")),
            Self::Exists(key) => f.write_str(key),
            Self::Missing(key) => write!(f, "!{key}"),
        }
    }
}

impl LabelSelector {
    /// Reads a selector.
    ///
    /// # Errors
    /// 400 when it can't be read.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        split_outside_parentheses(text)
            .into_iter()
            .map(|part| parse_requirement(part.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether an object is meant; `label` gives the value of one of its labels.
    pub fn allows<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| requirement.allows(&label))
    }
}

/// As it can be read again.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            write!(f, "{}{requirement}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Selector {
    /// Reads both selectors of a request.
    ///
    /// # Errors
    /// 400 when one can't be read, or asks for a field that can't be selected by.
    pub fn parse(labels: &str, fields: &str, kind: &Kind) -> Result<Self, Failure> {
        Ok(Self { labels: LabelSelector::parse(labels)?, fields: parse_fields(fields, kind)? })
    }

    /// Whether everything is meant.
    pub fn is_empty(&self) -> bool {
        self.labels.0.is_empty() && self.fields.is_empty()
    }

    /// Whether an object with these labels is meant; `object` is read only when fields matter.
    pub fn allows(&self, labels: &Labels, object: impl FnOnce() -> Value) -> bool {
        if !self.labels.allows(|key| labels.get(key)) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let object = object();
        self.fields.iter().all(|(path, equal, wanted)| (field(&object, path) == *wanted) == *equal)
    }
}

fn field(object: &Value, path: &str) -> String {
    let value = path.split('.').fold(object, |value, part| &value[part]);
    match value {
        Value::String(text) => text.clone(),
        Value::Null if path == "involvedObject.namespace" => String::new(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    if text.trim().is_empty() { Vec::new() } else { parts }
}

fn parse_requirement(text: &str) -> Result<Requirement, Failure> {
    let unreadable = |found: &str| {
        Failure::bad_request(format!(
            "unable to parse requirement: found '{found}', expected: in, notin, =, ==, !=, gt, lt"
        ))
    };
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Requirement::Missing(label_key(key.trim())?));
    }
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = text.split_once(operator) {
            let key = label_key(key.trim())?;
            let values = vec![label_value(&key, 0, value.trim())?];
            return Ok(if equal { Requirement::In(key, values) } else { Requirement::NotIn(key, values) });
        }
    }
    let mut words = text.splitn(2, char::is_whitespace);
    let key = words.next().unwrap_or_default();
    let Some(rest) = words.next().map(str::trim) else { return Ok(Requirement::Exists(label_key(text)?)) };
    let operator = rest.split(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let make = match operator {
        "in" => Requirement::In,
        "notin" => Requirement::NotIn,
        _ => return Err(unreadable(operator)),
    };
    let values = rest[operator.len()..].trim().strip_prefix('(').and_then(|values| values.strip_suffix(')'));
    let values = values.ok_or_else(|| unreadable(rest))?;
    let key = label_key(key)?;
    let values = values.split(',').enumerate().map(|(index, value)| label_value(&key, index, value.trim()));
    let values = values.collect::<Result<_, _>>()?;
    Ok(make(key, values))
}

fn label_key(key: &str) -> Result<String, Failure> {
    let fits = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    fits.then(|| key.to_owned())
        .ok_or_else(|| Failure::bad_request(format!("unable to parse requirement: <nil>: Invalid value: \"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')")))
}

fn label_value(key: &str, index: usize, value: &str) -> Result<String, Failure> {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let ends = |c: char| c.is_ascii_alphanumeric();
    let why = if !(value.chars().all(inner)
        && value.chars().next().is_none_or(ends)
        && value.chars().last().is_none_or(ends))
    {
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
    } else if value.len() > 63 {
        "must be no more than 63 bytes"
    } else {
        return Ok(value.to_owned());
    };
    Err(Failure::bad_request(format!(
        "unable to parse requirement: values[{index}][{key}]: Invalid value: \"{value}\": {why}"
    )))
}

const EVENT_FIELDS: [&str; 11] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

fn parse_fields(text: &str, kind: &Kind) -> Result<Vec<(String, bool, String)>, Failure> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| parse_field(part, kind)).collect()
}

fn parse_field(part: &str, kind: &Kind) -> Result<(String, bool, String), Failure> {
    let found = [("!=", false), ("==", true), ("=", true)]
        .into_iter()
        .find_map(|(operator, equal)| part.split_once(operator).map(|(field, value)| (field, equal, value)));
    let (field, equal, value) =
        found.ok_or_else(|| Failure::bad_request(format!("invalid selector: '{part}'; can't understand '{part}'")))?;
    let known = match field {
        "metadata.name" => true,
        "metadata.namespace" => kind.namespaced,
        "type" if kind.plural == "secrets" => true,
        "status.phase" if kind.plural == "namespaces" => true,
        _ => &*kind.stored_as == "events" && EVENT_FIELDS.contains(&field),
    };
    if !known {
        let label = if kind.custom {
            format!("field label not supported: {field}")
        } else {
            format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        };
        return Err(Failure::bad_request(label));
    }
    Ok((field.to_owned(), equal, value.to_owned()))
}
