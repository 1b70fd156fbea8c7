//! The statements, which SQLite and PostgreSQL understand alike; and what their tables look like.

use std::borrow::Cow;

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
    ports::{Noted, Page, RecordsError, RunRecord},
};

/// How many records one statement forgets: few, as nothing is stored meanwhile.
pub const FORGOTTEN: u64 = 500;
/// Where it is noted which changes the tables of run records have had. Not sqlx's own name for it, as others may use the
/// same database.
pub const MIGRATIONS_TABLE: &str = "drover_migrations";

/// A statement with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Made of constants and numbers only.
    pub text: Cow<'static, str>,
    /// What stands apart from it.
    pub values: Vec<Option<String>>,
}

impl Statement {
    /// The same for one database.
    pub fn query<DB: Database>(self) -> Query<'static, DB, DB::Arguments>
    where
        Option<String>: for<'q> Encode<'q, DB> + Type<DB>,
    {
        let query = sqlx::query(AssertSqlSafe(self.text.into_owned()));
        self.values.into_iter().fold(query, Query::bind)
    }
}

/// Where a record's model, version, digest, node, caller and outcome stand.
pub type Columns = [&'static str; 6];

/// A record in the database.
pub type Found = (String, Option<String>, Option<String>);

/// One record.
pub fn select_one(id: RunId) -> Statement {
    let text = "SELECT record, feedback, capture FROM drover_runs WHERE id = $1";
    Statement { text: text.into(), values: vec![Some(id.to_string())] }
}

/// The newest records that fit, one more than `limit`, by which one sees whether there are more. What they are filtered by
/// stands in `columns`.
pub fn select(filter: &RunFilter, limit: usize, columns: &Columns) -> Statement {
    let (from, before) = filter.ids();
    let capture = if filter.with_capture { "capture" } else { "NULL" };
    let mut text = format!("SELECT record, feedback, {capture} FROM drover_runs WHERE id >= $1 AND id < $2");
    let mut values = vec![Some(from.to_string()), Some(before.to_string())];
    let wanted = [
        filter.model.as_deref(),
        filter.version.as_deref(),
        filter.digest.as_deref(),
        filter.node.as_deref(),
        filter.caller.as_deref(),
        filter.outcome.map(|outcome| outcome.name()),
    ];
    for (column, value) in columns.iter().zip(wanted) {
        if let Some(value) = value {
            values.push(Some(value.to_owned()));
            text += &format!(" AND {column} = ${}", values.len());
        }
    }
    text += &format!(" ORDER BY id DESC LIMIT {}", limit.saturating_add(1));
    Statement { text: text.into(), values }
}

/// Notes feedback where there is none; and where there is some, which is the next statement when that one found no row.
pub fn set_feedback(id: RunId, feedback: &Feedback) -> Result<[(Statement, Noted); 2], RecordsError> {
    let feedback = serde_json::to_string(feedback).map_err(down)?;
    let first = "UPDATE drover_runs SET feedback = $1 WHERE id = $2 AND feedback IS NULL";
    let again = "UPDATE drover_runs SET feedback = $1 WHERE id = $2";
    Ok([(first, Noted::First), (again, Noted::Again)].map(|(text, noted)| {
        (Statement { text: text.into(), values: vec![Some(feedback.clone()), Some(id.to_string())] }, noted)
    }))
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

/// Brings the tables up to date with these changes, each with its name, and says which version they are of; `table` notes
/// which of them were made.
pub async fn migrate<C: Migrate>(
    connection: &mut C,
    table: &'static str,
    changes: &[(&'static str, &'static str)],
) -> Result<usize, RecordsError> {
    let migrations = changes.iter().zip(1..).map(|((name, text), version)| {
        Migration::new(version, (*name).into(), MigrationType::Simple, text.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(table);
    migrator.run_direct(None, connection, false).await.map_err(down)?;
    Ok(changes.len())
}
