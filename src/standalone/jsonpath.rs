//! The part of JSONPath that columns use: fields, indexes, `[*]` and filters such as `[?(@.type=="Ready")]`.

use serde_json::Value;

/// A path, taken apart.
pub struct Path(Vec<Step>);

impl Path {
    /// Reads a path; what can't be read ends it.
    pub fn new(path: &str) -> Self {
        let mut rest = path.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
        let steps = std::iter::from_fn(|| {
            let (step, after) = next_step(rest)?;
            rest = after;
            Some(step)
        });
        Self(steps.collect())
    }

    /// Every value there.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let step = |found: Vec<&'a Value>, step| found.into_iter().flat_map(|value| apply(value, step)).collect();
        self.0.iter().fold(vec![value], step)
    }

    /// The fields that it begins with.
    pub fn fields(&self) -> Vec<String> {
        let field = |step: &Step| if let Step::Field(name) = step { Some(name.clone()) } else { None };
        self.0.iter().map_while(field).collect()
    }
}

/// Every value at a path.
pub fn find<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    Path::new(path).find(value)
}

enum Step {
    Field(String),
    Index(i64),
    All,
    Equals(String, Value),
}

fn next_step(path: &str) -> Option<(Step, &str)> {
    if let Some(rest) = path.strip_prefix('[') {
        let end = closing(rest)?;
        return Some((bracket(rest[..end].trim())?, &rest[end + 1..]));
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.is_empty() {
        return None;
    }
    let (mut name, mut end, mut escaped) = (String::new(), path.len(), false);
    for (at, c) in path.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '.' | '[' if !escaped => {
                end = at;
                break;
            }
            c => {
                name.push(c);
                escaped = false;
            }
        }
    }
    let step = if name == "*" { Step::All } else { Step::Field(name) };
    Some((step, &path[end..]))
}

/// Where the bracket closes, outside of strings.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    text.char_indices().find_map(|(at, c)| {
        match (quote, c) {
            (None, ']') => return Some(at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
        None
    })
}

fn bracket(inner: &str) -> Option<Step> {
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(condition) = inner.strip_prefix("?(").and_then(|inner| inner.strip_suffix(')')) {
        let (left, right) = condition.split_once("==")?;
        let field = left.trim().strip_prefix("@.")?.trim().to_owned();
        return Some(Step::Equals(field, literal(right.trim())));
    }
    if let Ok(index) = inner.parse() {
        return Some(Step::Index(index));
    }
    Some(Step::Field(inner.trim_matches(['\'', '"']).to_owned()))
}

fn literal(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.trim_matches(['\'', '"']).to_owned()))
}

fn apply<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let at = if *index < 0 { items.len().cast_signed() as i64 + index } else { *index };
            usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
        }
        Step::All => match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        },
        Step::Equals(field, wanted) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().filter(|item| find(item, field).first() == Some(&wanted)).collect()
        }
    }
}
