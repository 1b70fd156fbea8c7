//! From text to objects: pure.

use std::fmt;

use serde_json::Value;

/// Where in the folder something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as seen from the folder.
    pub file: String,
    /// Which of the file's documents, from 1 on; 0 when all of the file is meant.
    pub number: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => f.write_str(&self.file),
            number => write!(f, "{}, document {number}", self.file),
        }
    }
}

/// An object as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where.
    pub place: Place,
    /// The object; a JSON map.
    pub body: Value,
}

/// What is wrong somewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, for people.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// The objects of a file, and what of it can't be read. `file` is for people, and tells JSON by its ending.
pub fn parse(file: &str, text: &str) -> (Vec<Document>, Vec<Fault>) {
    let values = if file.ends_with(".json") { json(text) } else { yaml(text) };
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    for (index, value) in values.into_iter().enumerate() {
        let place = Place { file: file.to_owned(), number: index + 1 };
        match value.and_then(objects) {
            Ok(bodies) => documents.extend(bodies.into_iter().map(|body| Document { place: place.clone(), body })),
            Err(why) => faults.push(Fault { place, why }),
        }
    }
    (documents, faults)
}

/// The objects in one document: none in an empty one, several in a List.
fn objects(value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Object(mut map) if map.get("kind").is_some_and(|kind| kind == "List") => match map.remove("items") {
            Some(Value::Array(items)) if items.iter().all(Value::is_object) => Ok(items),
            _ => Err("its items are not a list of objects".into()),
        },
        Value::Object(_) => Ok(vec![value]),
        _ => Err("it is not an object: write apiVersion, kind, metadata and spec".into()),
    }
}

/// The documents of a stream end where the first fault is: what follows can't be told apart.
fn json(text: &str) -> Vec<Result<Value, String>> {
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        values.push(value.map_err(|error| error.to_string()));
    }
    values
}

/// A document begins at each line with three dashes at its beginning; one that is wrong doesn't hide the others.
fn yaml(text: &str) -> Vec<Result<Value, String>> {
    let mut parts: Vec<(usize, String)> = vec![(0, String::new())];
    for (number, line) in text.lines().enumerate() {
        let rest = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if let Some(rest) = rest {
            parts.push((number, rest.to_owned() + "\n"));
        } else if let Some((_, part)) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    // What stands before the first dashes is a document only if there is something.
    let has_something = |part: &str| part.lines().any(|line| !(line.trim().is_empty() || line.starts_with(['#', '%'])));
    if parts.len() > 1 && parts.first().is_some_and(|(_, part)| !has_something(part)) {
        parts.remove(0);
    }
    parts.into_iter().map(|(first, part)| yaml_document(first, &part)).collect()
}

fn yaml_document(first: usize, text: &str) -> Result<Value, String> {
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| match error.location() {
        // Without its own place, which counts from the document's beginning.
        Some(at) => format!("line {}: {}", first + at.line(), words(&error.to_string())),
        None => error.to_string(),
    })?;
    value.apply_merge().map_err(|error| error.to_string())?;
    serde_json::to_value(value).map_err(|error| error.to_string())
}

/// A message without ` at line 3 column 1`.
fn words(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}
