//! Copies of the state: made while it is written, and made fit to go on in the place of another.

use std::path::Path;

use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};

/// What a state holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// How many objects.
    pub objects: usize,
    /// The revision of the last change.
    pub revision: u64,
}

/// Copies an SQLite file as it is at one moment, whoever else writes it. The copy is a file by itself.
///
/// # Errors
/// What can't be read or written, and why.
pub async fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let mut connection = connect(SqliteConnectOptions::new().filename(from).read_only(true), from).await?;
    // The name of the copy is a value, in which nothing needs to be escaped.
    let copied = sqlx::query("VACUUM INTO ?").bind(to.to_string_lossy()).execute(&mut connection).await;
    copied.map_err(|error| format!("copying {} to {}: {error}", from.display(), to.display()))?;
    Ok(())
}

/// What a state holds.
///
/// # Errors
/// When it can't be read.
pub async fn contents(file: &Path) -> Result<Contents, String> {
    let mut connection = connect(SqliteConnectOptions::new().filename(file).read_only(true), file).await?;
    read_contents(&mut connection).await.map_err(|error| format!("{}: {error}", file.display()))
}

/// Checks a copy and makes it the future of a state that had come to the revision `known`: every object gets a revision
/// that no client has seen, and the history is forgotten, so that watchers list again.
///
/// # Errors
/// When the copy is damaged, or can't be written.
pub async fn renew(file: &Path, known: u64) -> Result<Contents, String> {
    let mut connection = connect(SqliteConnectOptions::new().filename(file), file).await?;
    let say = |error: sqlx::Error| format!("{}: {error}", file.display());
    let found: String =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await.map_err(say)?;
    if found != "ok" {
        return Err(format!("{} is damaged: {found}", file.display()));
    }
    let base = read_contents(&mut connection).await.map_err(say)?.revision.max(known);
    let contents = rewrite(&mut connection, base).await.map_err(say)?;
    connection.close().await.map_err(say)?;
    Ok(contents)
}

async fn connect(options: SqliteConnectOptions, file: &Path) -> Result<SqliteConnection, String> {
    let connected = options.disable_statement_logging().connect().await;
    connected.map_err(|error| format!("{}: {error}", file.display()))
}

async fn read_contents(connection: &mut SqliteConnection) -> Result<Contents, sqlx::Error> {
    let query =
        "SELECT (SELECT count(*) FROM objects), coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0)";
    let (objects, revision): (i64, i64) = sqlx::query_as(query).fetch_one(connection).await?;
    Ok(Contents { objects: usize::try_from(objects).unwrap_or_default(), revision: revision.cast_unsigned() })
}

async fn rewrite(connection: &mut SqliteConnection, base: u64) -> Result<Contents, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let query =
        "SELECT c.resource, c.path, c.written, c.body FROM objects o JOIN changes c USING (revision) ORDER BY revision";
    let rows = sqlx::query(query).fetch_all(&mut *transaction).await?;
    sqlx::raw_sql("DELETE FROM changes;").execute(&mut *transaction).await?;
    let mut revision = base;
    for row in &rows {
        revision += 1;
        let mut object: Value =
            serde_json::from_slice(row.try_get(3)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        sqlx::query("INSERT INTO changes VALUES (?, ?, ?, FALSE, ?, ?)")
            .bind(revision.cast_signed())
            .bind(row.try_get::<&str, _>(0)?)
            .bind(row.try_get::<&str, _>(1)?)
            .bind(row.try_get::<i64, _>(2)?)
            .bind(object.to_string().as_bytes())
            .execute(&mut *transaction)
            .await?;
    }
    let forgotten = revision.cast_signed();
    sqlx::query("UPDATE sqlite_sequence SET seq = ? WHERE name = 'changes'")
        .bind(forgotten)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("UPDATE compaction SET revision = ?").bind(forgotten).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Contents { objects: rows.len(), revision })
}
