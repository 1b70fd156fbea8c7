//! The statements, which SQLite and PostgreSQL understand alike; and what their tables look like.

use std::borrow::Cow;

use serde::Deserialize;
use sqlx::{
    AssertSqlSafe, Database, Encode, SqlSafeStr, Type,
    migrate::{Migrate, Migration, MigrationType, Migrator},
    query::Query,
};

use super::down;
use crate::{
    domain::{
        run_id::RunId,
        run_record::{Feedback, RunFilter},
    },
    ports::{Page, RecordsError, RunRecord},
};

/// How many rows one statement inserts: each number of them is a statement that the database has to prepare once.
pub const ROWS: usize = 64;
/// How many records one statement forgets: few, as nothing is stored meanwhile.
pub const FORGOTTEN: u64 = 500;
const COLUMNS: usize = 10;
/// Between a record and what was said, in a line; JSON has none of these.
const TAB: u8 = b'\t';
const MIGRATIONS: [(&str, &str); 1] = [("runs", include_str!("migrations/1_runs.sql"))];
/// Not sqlx's own name for it, as others may use the same database.
const MIGRATIONS_TABLE: &str = "drover_migrations";

/// A statement with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    text: Cow<'static, str>,
    values: Vec<Option<String>>,
}

/// One record as its columns.
pub type Row = [Option<String>; COLUMNS];

impl Statement {
    /// The same for one database.
    pub fn query<DB: Database>(self) -> Query<'static, DB, DB::Arguments>
    where
        Option<String>: for<'q> Encode<'q, DB> + Type<DB>,
    {
        // The text is made of constants and numbers only; values stand apart from it.
        let query = sqlx::query(AssertSqlSafe(self.text.into_owned()));
        self.values.into_iter().fold(query, Query::bind)
    }
}

/// A record in the database.
pub type Found = (String, Option<String>, Option<String>);

/// Writes a record as one line: JSON, and what was said apart from the rest, so that lists needn't read it.
pub fn write_line(mut record: RunRecord, line: &mut Vec<u8>) -> Result<(), RecordsError> {
    let capture = record.capture.take();
    serde_json::to_writer(&mut *line, &record).map_err(down)?;
    if let Some(capture) = capture {
        line.push(TAB);
        serde_json::to_writer(line, &capture).map_err(down)?;
    }
    Ok(())
}

/// The columns of such a line; nothing if it is none, as happens when a write was cut short.
pub fn row(line: &[u8]) -> Option<Row> {
    #[derive(Deserialize)]
    struct Columns {
        id: String,
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
    let line = str::from_utf8(line).ok()?;
    let (record, capture) =
        line.split_once(char::from(TAB)).map_or((line, None), |(record, said)| (record, Some(said)));
    let Columns { id, namespace, resolved, caller, outcome } = serde_json::from_str(record).ok()?;
    let (model, resolved) = match resolved {
        Some(mut resolved) => (Some(std::mem::take(&mut resolved.model)), resolved),
        None => (None, Resolved::default()),
    };
    let Resolved { digest, version, node, .. } = resolved;
    let (record, capture) = (Some(record.to_owned()), capture.map(str::to_owned));
    Some([Some(id), Some(namespace), model, version, digest, node, caller, Some(outcome), record, capture])
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

/// One record.
pub fn select_one(id: RunId) -> Statement {
    let text = "SELECT record, feedback, capture FROM drover_runs WHERE id = $1";
    Statement { text: text.into(), values: vec![Some(id.to_string())] }
}

/// The newest records that fit, one more than `limit`, by which one sees whether there are more.
pub fn select(filter: &RunFilter, limit: usize) -> Statement {
    let (from, before) = filter.ids();
    let capture = if filter.with_capture { "capture" } else { "NULL" };
    let mut text = format!("SELECT record, feedback, {capture} FROM drover_runs WHERE id >= $1 AND id < $2");
    let mut values = vec![Some(from.to_string()), Some(before.to_string())];
    let columns = [
        ("model", filter.model.as_deref()),
        ("version", filter.version.as_deref()),
        ("digest", filter.digest.as_deref()),
        ("node", filter.node.as_deref()),
        ("caller", filter.caller.as_deref()),
        ("outcome", filter.outcome.map(|outcome| outcome.name())),
    ];
    for (column, value) in columns {
        if let Some(value) = value {
            values.push(Some(value.to_owned()));
            text += &format!(" AND {column} = ${}", values.len());
        }
    }
    text += &format!(" ORDER BY id DESC LIMIT {}", limit.saturating_add(1));
    Statement { text: text.into(), values }
}

/// Notes feedback.
pub fn set_feedback(id: RunId, feedback: &Feedback) -> Result<Statement, RecordsError> {
    let feedback = serde_json::to_string(feedback).map_err(down)?;
    let text = "UPDATE drover_runs SET feedback = $1 WHERE id = $2";
    Ok(Statement { text: text.into(), values: vec![Some(feedback), Some(id.to_string())] })
}

/// Forgets the oldest records before an id, at most so many.
pub fn forget(before: RunId, most: u64) -> Statement {
    let text = format!(
        "DELETE FROM drover_runs WHERE id IN (SELECT id FROM drover_runs WHERE id < $1 ORDER BY id LIMIT {most})"
    );
    Statement { text: text.into(), values: vec![Some(before.to_string())] }
}

/// How many of `count` records, which take `used` bytes, are to be forgotten next so that `size` are enough.
pub fn excess(used: u64, count: u64, size: u64) -> u64 {
    let too_many = u128::from(count) * u128::from(used.saturating_sub(size)) / u128::from(used.max(1));
    match used > size && count > 0 {
        true => u64::try_from(too_many).unwrap_or(u64::MAX).clamp(1, FORGOTTEN),
        false => 0,
    }
}

/// A record with what was noted to it and what was said, read from its row.
pub fn record((record, feedback, capture): Found) -> Result<RunRecord, RecordsError> {
    let mut record: RunRecord = serde_json::from_str(&record).map_err(down)?;
    record.feedback = feedback.map(|feedback| serde_json::from_str(&feedback)).transpose().map_err(down)?;
    record.capture = capture.map(|capture| serde_json::from_str(&capture)).transpose().map_err(down)?;
    Ok(record)
}

/// The rows that [`select`] found, as a page.
pub fn page(rows: Vec<Found>, limit: usize) -> Result<Page, RecordsError> {
    let has_more = rows.len() > limit;
    let items: Vec<RunRecord> = rows.into_iter().take(limit).map(record).collect::<Result<_, _>>()?;
    let next = items.last().filter(|_| has_more).map(|record| record.id);
    Ok(Page { items, next })
}

/// Brings the tables up to date, and says which version they are of.
pub async fn migrate<C: Migrate>(connection: &mut C) -> Result<usize, RecordsError> {
    let migrations = MIGRATIONS.iter().zip(1..).map(|((name, text), version)| {
        Migration::new(version, (*name).into(), MigrationType::Simple, text.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator.run_direct(None, connection, false).await.map_err(down)?;
    Ok(MIGRATIONS.len())
}
