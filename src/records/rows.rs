//! Records as PostgreSQL has them: what lists are filtered by stands in columns of its own.

use serde::Deserialize;

use super::{
    line::Line,
    sql::{self, Statement},
};

/// How many rows one statement inserts: each number of them is a statement that the database has to prepare once.
pub const MOST: usize = 64;
/// By what lists are filtered.
pub const FILTERED: sql::Columns = ["model", "version", "digest", "node", "caller", "outcome"];
const COLUMNS: usize = 10;

/// One record as its columns.
pub type Row = [Option<String>; COLUMNS];

/// The columns of a record's line; nothing if it is none.
pub fn row(line: &[u8]) -> Option<Row> {
    #[derive(Deserialize)]
    struct Columns {
        namespace: String,
        resolved: Option<Resolved>,
        caller: Option<String>,
        outcome: String,
    }
    #[derive(Default, Deserialize)]
    struct Resolved {
        model: String,
        digest: Option<String>,
        version: Option<String>,
        node: Option<String>,
    }
    let Line { id, record, capture } = Line::read(line)?;
    let Columns { namespace, resolved, caller, outcome } = serde_json::from_str(record).ok()?;
    let (model, resolved) = match resolved {
        Some(mut resolved) => (Some(std::mem::take(&mut resolved.model)), resolved),
        None => (None, Resolved::default()),
    };
    let Resolved { digest, version, node, .. } = resolved;
    let (id, record, capture) = (Some(id.to_owned()), Some(record.to_owned()), capture.map(str::to_owned));
    Some([id, Some(namespace), model, version, digest, node, caller, Some(outcome), record, capture])
}

/// Adds records; one that is there already stays as it is.
pub fn insert(rows: Vec<Row>) -> Statement {
    let mut text = String::from(
        "INSERT INTO drover_runs (id, namespace, model, version, digest, node, caller, outcome, record, capture) VALUES ",
    );
    for row in 0..rows.len() {
        let places: Vec<String> = (1..=COLUMNS).map(|column| format!("${}", row * COLUMNS + column)).collect();
        text += if row == 0 { "(" } else { ", (" };
        text += &places.join(", ");
        text += ")";
    }
    text += " ON CONFLICT (id) DO NOTHING";
    Statement { text: text.into(), values: rows.into_iter().flatten().collect() }
}
