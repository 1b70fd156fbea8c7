//! The state on disk: one SQLite file with the last changes and, older or not, the last one of each object.

use std::{collections::BTreeSet, path::Path, str::FromStr, sync::Arc, time::Duration};

use futures::TryStreamExt;
use serde_json::json;
use sqlx::{
    ConnectOptions, Connection, QueryBuilder, Row, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};

use super::{
    Change, Entry, State,
    body::{self, Pool},
};

const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS changes (
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        resource TEXT NOT NULL, path TEXT NOT NULL, deleted INTEGER NOT NULL, written INTEGER NOT NULL, body BLOB NOT NULL
    ) STRICT;
    CREATE VIEW IF NOT EXISTS objects AS
        SELECT resource, path, max(revision) AS revision FROM changes GROUP BY resource, path HAVING NOT deleted;
    CREATE TABLE IF NOT EXISTS compaction (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL) STRICT;
    INSERT OR IGNORE INTO compaction VALUES (1, 0);";

/// How long an acknowledged write lasts. In both cases it outlives the process, however that ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Beyond a loss of power: the disk has it before it is acknowledged.
    #[default]
    Full,
    /// The last few writes may be gone after a loss of power; what is left is whole.
    Normal,
}

impl FromStr for Durability {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "full" => Ok(Self::Full),
            "normal" => Ok(Self::Normal),
            _ => Err(()),
        }
    }
}

/// Changes that nobody can ask for any more.
pub struct Forgotten {
    /// The last of them.
    pub revision: u64,
    /// Those of them, and of the ones before, after which the object was changed again or is gone.
    pub outdated: BTreeSet<u64>,
}

/// The file.
pub struct Disk {
    options: SqliteConnectOptions,
    /// None after a failure: the next write opens the file again.
    connection: Option<SqliteConnection>,
}

impl Disk {
    /// Opens the file, or makes it, with everything that is in it.
    pub async fn open(file: &Path, durability: Durability, pool: &Pool) -> Result<(Self, State), sqlx::Error> {
        let synchronous = match durability {
            Durability::Full => SqliteSynchronous::Full,
            Durability::Normal => SqliteSynchronous::Normal,
        };
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(true).busy_timeout(BUSY_TIMEOUT);
        let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(synchronous);
        let options = options.disable_statement_logging();
        let mut connection = options.connect().await?;
        sqlx::raw_sql(TABLES).execute(&mut connection).await?;
        let state = load(&mut connection, pool).await?;
        Ok((Self { options, connection: Some(connection) }, state))
    }

    /// Writes changes and leaves out what is forgotten, all of it or nothing.
    pub async fn store(&mut self, changes: &[Change], forgotten: Option<&Forgotten>) -> Result<(), sqlx::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        match write(&mut connection, changes, forgotten).await {
            Ok(()) => self.connection = Some(connection),
            Err(error) => {
                // A transaction that failed may still be open: what came later would be written inside of it, and gone with it.
                // Closing ends it; whether that succeeds makes no difference to what is known.
                let _ = connection.close().await;
                return Err(error);
            }
        }
        Ok(())
    }
}

async fn load(connection: &mut SqliteConnection, pool: &Pool) -> Result<State, sqlx::Error> {
    let forgotten: i64 = sqlx::query_scalar("SELECT revision FROM compaction").fetch_one(&mut *connection).await?;
    let newest = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0)";
    let revision: i64 = sqlx::query_scalar(newest).fetch_one(&mut *connection).await?;
    let mut state =
        State { revision: revision.cast_unsigned(), forgotten: forgotten.cast_unsigned(), ..State::default() };
    let rows = "SELECT revision, resource, path, deleted, written, body FROM changes ORDER BY revision";
    let mut rows = sqlx::query(rows).fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        let deleted = row.try_get(3)?;
        let entry = read_row(&row, &state, pool)?;
        let known = state.get(&entry.resource, &entry.path);
        let entry = Arc::new(entry.following(known));
        let before = state.put(&entry, deleted);
        if entry.revision > state.forgotten {
            state.history.push_back(Change { entry, deleted, before });
        }
    }
    Ok(state)
}

async fn write(
    connection: &mut SqliteConnection,
    changes: &[Change],
    forgotten: Option<&Forgotten>,
) -> Result<(), sqlx::Error> {
    let Some(Forgotten { revision, outdated }) = forgotten else {
        // One statement is a transaction by itself.
        return insert(connection, changes).await;
    };
    let mut transaction = connection.begin().await?;
    insert(&mut transaction, changes).await?;
    let delete = "DELETE FROM changes WHERE revision IN (SELECT value FROM json_each(?))";
    sqlx::query(delete).bind(json!(outdated).to_string()).execute(&mut *transaction).await?;
    let compact = sqlx::query("UPDATE compaction SET revision = ?").bind(revision.cast_signed());
    compact.execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Why a change was not stored, and what to do.
pub fn advice(error: &sqlx::Error) -> String {
    // https://sqlite.org/rescode.html
    const SHARED_MEMORY_SIZE: u32 = 4874;
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
    match (code, code.map(|code| code & 0xff)) {
        (Some(SHARED_MEMORY_SIZE), _) | (_, Some(13)) => "the disk is full: free some space on it".into(),
        (_, Some(5 | 6)) => "another program is writing to the file of the objects: end it".into(),
        (_, Some(19)) => "another program wrote to the file of the objects: end it, and start again".into(),
        (_, Some(10)) => format!("the disk fails: {error}"),
        _ => error.to_string(),
    }
}

async fn insert(connection: &mut SqliteConnection, changes: &[Change]) -> Result<(), sqlx::Error> {
    let mut statement = QueryBuilder::<Sqlite>::new("INSERT INTO changes ");
    statement.push_values(changes, |mut row, Change { entry, deleted, .. }| {
        row.push_bind(entry.revision.cast_signed()).push_bind(entry.resource.to_string()).push_bind(entry.path.clone());
        row.push_bind(*deleted).push_bind(entry.written).push_bind(entry.body.to_vec());
    });
    statement.build().execute(connection).await.map(drop)
}

fn read_row(row: &SqliteRow, state: &State, pool: &Pool) -> Result<Entry, sqlx::Error> {
    let (revision, resource, path): (i64, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let resource = state.resources.get_key_value(resource).map_or_else(|| resource.into(), |(known, _)| known.clone());
    let (body, about) = body::stored(row.try_get(5)?, pool).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let (path, written) = (path.to_owned(), row.try_get(4)?);
    Ok(Entry { resource, path, revision: revision.cast_unsigned(), body, about: about.into(), written })
}
