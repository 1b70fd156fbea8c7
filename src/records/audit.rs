//! The audit in a database: an SQLite file of its own, or a table beside the run records in PostgreSQL.
//!
//! It is written a few times per rollout, so each entry is a statement of its own. Entries have ids that say what they
//! are, and one that is there is not written again: whoever is not sure whether it was stored stores it once more.

use std::{fs::File, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc, time::Duration};

use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use jiff::Timestamp;
use sqlx::{
    ConnectOptions, PgPool, Postgres, Row, Sqlite, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    Place, down,
    sql::{self, Statement},
};
use crate::ports::{AuditFilter, AuditLog, AuditRecord, RecordsError};

const FILE: &str = "audit.db";
const MIGRATIONS: [(&str, &str); 1] = [("audit", include_str!("migrations/audit/1_audit.sql"))];
/// Not that of the run records, which other processes bring up to date at other times.
const MIGRATIONS_TABLE: &str = "drover_audit_migrations";
/// How long entries are kept: a year.
const KEPT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long the database may take for one statement.
const PATIENCE: Duration = Duration::from_secs(5);
const CONNECTIONS: u32 = 2;
const IDLE: Duration = Duration::from_secs(60);

/// Opens the audit. A database that can't be reached is no error: it is tried when something is to be stored.
///
/// # Errors
/// When the file can't be made.
pub fn open(place: &Place) -> Result<Arc<dyn AuditLog>, String> {
    let database = match place {
        Place::Folder(folder) => {
            let file = folder.join(FILE);
            make(folder, &file).map_err(|error| format!("{}: {error}", file.display()))?;
            let options = SqliteConnectOptions::new().filename(&file).journal_mode(SqliteJournalMode::Wal);
            let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).idle_timeout(IDLE);
            Database::Sqlite(pool.connect_lazy_with(options.busy_timeout(PATIENCE).disable_statement_logging()))
        }
        Place::Postgres(url) => {
            let pool = PgPoolOptions::new().max_connections(CONNECTIONS).idle_timeout(IDLE).acquire_timeout(PATIENCE);
            Database::Postgres(pool.connect_lazy_with(url.options()))
        }
    };
    Ok(Arc::new(Log { database, is_current: OnceCell::new() }))
}

/// Names of people and models are in it, which are not everybody's business.
fn make(folder: &Path, file: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    File::options().create(true).append(true).mode(0o600).open(file).map(drop)
}

struct Log {
    database: Database,
    /// Set once the tables are as this program has them.
    is_current: OnceCell<()>,
}

enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Log {
    async fn database(&self) -> Result<&Database, RecordsError> {
        self.is_current.get_or_try_init(|| within(self.database.migrate())).await?;
        Ok(&self.database)
    }
}

impl AuditLog for Log {
    fn add(&self, records: Vec<AuditRecord>) -> BoxFuture<'_, Result<(), RecordsError>> {
        async move {
            let database = self.database().await?;
            for record in &records {
                within(database.execute(insert(record)?)).await?;
            }
            let oldest = Timestamp::now().checked_sub(KEPT).map_err(down)?;
            within(database.execute(forget(oldest))).await
        }
        .boxed()
    }

    fn list(&self, filter: AuditFilter, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRecord>, RecordsError>> {
        async move {
            let texts = within(self.database().await?.texts(select(&filter, limit))).await?;
            texts.iter().map(|text| serde_json::from_str(text).map_err(down)).collect()
        }
        .boxed()
    }
}

impl Database {
    async fn migrate(&self) -> Result<(), RecordsError> {
        match self {
            Self::Sqlite(pool) => {
                let mut connection = pool.acquire().await.map_err(down)?;
                sql::migrate(&mut *connection, MIGRATIONS_TABLE, &MIGRATIONS).await.map(drop)
            }
            Self::Postgres(pool) => {
                let mut connection = pool.acquire().await.map_err(down)?;
                sql::migrate(&mut *connection, MIGRATIONS_TABLE, &MIGRATIONS).await.map(drop)
            }
        }
    }

    async fn execute(&self, statement: Statement) -> Result<(), RecordsError> {
        match self {
            Self::Sqlite(pool) => statement.query::<Sqlite>().execute(pool).await.map(drop).map_err(down),
            Self::Postgres(pool) => statement.query::<Postgres>().execute(pool).await.map(drop).map_err(down),
        }
    }

    /// The first column of what is found.
    async fn texts(&self, statement: Statement) -> Result<Vec<String>, RecordsError> {
        let texts: Result<Vec<String>, sqlx::Error> = match self {
            Self::Sqlite(pool) => {
                statement.query::<Sqlite>().fetch(pool).and_then(async |row| row.try_get(0)).try_collect().await
            }
            Self::Postgres(pool) => {
                statement.query::<Postgres>().fetch(pool).and_then(async |row| row.try_get(0)).try_collect().await
            }
        };
        texts.map_err(down)
    }
}

async fn within<T>(task: impl Future<Output = Result<T, RecordsError>>) -> Result<T, RecordsError> {
    let late = |_| down(format!("the database of the audit did not answer within {PATIENCE:?}"));
    timeout(PATIENCE, task).await.map_err(late)?
}

fn insert(record: &AuditRecord) -> Result<Statement, RecordsError> {
    let text = "INSERT INTO drover_audit (id, at, namespace, model, deployment, record)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING";
    let whole = serde_json::to_string(record).map_err(down)?;
    let AuditRecord { namespace, deployment, model, entry, .. } = record;
    let values = [record.id(), sortable(entry.at), namespace.clone(), model.clone(), deployment.clone(), whole];
    Ok(Statement { text: text.into(), values: values.into_iter().map(Some).collect() })
}

fn forget(before: Timestamp) -> Statement {
    Statement { text: "DELETE FROM drover_audit WHERE at < $1".into(), values: vec![Some(sortable(before))] }
}

fn select(filter: &AuditFilter, limit: usize) -> Statement {
    let mut text = "SELECT record FROM drover_audit WHERE at >= $1".to_owned();
    let mut values = vec![Some(filter.since.map_or(String::new(), sortable))];
    for (column, wanted) in
        [("namespace", &filter.namespace), ("model", &filter.model), ("deployment", &filter.deployment)]
    {
        if let Some(wanted) = wanted {
            values.push(Some(wanted.clone()));
            text += &format!(" AND {column} = ${}", values.len());
        }
    }
    text += &format!(" ORDER BY at DESC, id DESC LIMIT {limit}");
    Statement { text: text.into(), values }
}

/// A time as text that sorts as times do.
fn sortable(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
