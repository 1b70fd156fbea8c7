//! Run records in a PostgreSQL database, which several gateways may share.
//!
//! One writer commits whatever waits in one transaction, and what comes meanwhile in the next one. It asks an idle
//! server whether it is there, so that this is known before a request needs it.

use std::{convert::Infallible, fmt, str::FromStr, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use jiff::Timestamp;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{Keeper, Retention, Sync, down, line, rows, sql};
use crate::{
    domain::{
        run_id::RunId,
        run_record::{Feedback, RunFilter},
    },
    ports::{Noted, Page, Records, RecordsError, RunRecord},
};

const MIGRATIONS: [(&str, &str); 1] = [("runs", include_str!("migrations/postgres/1_runs.sql"))];
const READERS: u32 = 2;
const READER_IDLE: Duration = Duration::from_secs(60);
/// How many records may wait for the server.
const QUEUE: usize = 16_384;
/// How many are committed together at most.
const BATCH: usize = 1_024;
/// How long the server may take for one of its tasks.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an idle server is asked, and how long after a fault it is tried again.
const ASK_EVERY: Duration = Duration::from_secs(1);
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// Bytes of all records, with some for what a row has besides its text.
const USED: &str =
    "SELECT coalesce(sum(octet_length(record) + coalesce(octet_length(capture), 0) + 200), 0)::bigint, count(*)
    FROM drover_runs";
/// Of several gateways one at a time forgets.
const FORGET_LOCK: &str = "SELECT pg_try_advisory_xact_lock(hashtext('drover_runs'))";

/// Where a database is: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. Never printed whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl FromStr for Url {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let url = Some(text).filter(|text| is_postgres && PgConnectOptions::from_str(text).is_ok());
        url.map(|text| Self(text.into())).ok_or(())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://…")
    }
}

impl Url {
    pub(super) fn options(&self) -> PgConnectOptions {
        // It was parsed when it was read.
        let options = PgConnectOptions::from_str(&self.0).unwrap_or_default();
        options.application_name("drover").disable_statement_logging()
    }
}

/// A record that waits, and who waits with it.
struct Waiting {
    line: Vec<u8>,
    done: oneshot::Sender<Result<(), RecordsError>>,
}

struct PostgresRecords {
    queue: mpsc::Sender<Waiting>,
    pool: PgPool,
    fault: Arc<ArcSwapOption<String>>,
}

/// Names the database; it is connected to later.
pub fn open(url: &Url, sync: Sync, retention: Retention) -> (Arc<dyn Records>, Keeper) {
    let options = url.options().options([("synchronous_commit", if sync == Sync::Full { "on" } else { "off" })]);
    let pool = PgPoolOptions::new().max_connections(READERS).idle_timeout(READER_IDLE).acquire_timeout(PATIENCE);
    let pool = pool.connect_lazy_with(options.clone());
    let (queue, waiting) = mpsc::channel(QUEUE);
    let fault = Arc::new(ArcSwapOption::from_pointee("not connected to PostgreSQL yet".to_owned()));
    let writer = Writer { options, fault: fault.clone(), connection: None };
    let forgetting = keep_forgetting(pool.clone(), retention);
    let keeper = async move {
        tokio::select! {
            () = writer.run(waiting) => Ok(()),
            never = forgetting => match never {},
        }
    };
    (Arc::new(PostgresRecords { queue, pool, fault }), keeper.boxed())
}

impl PostgresRecords {
    async fn rows(&self, statement: sql::Statement) -> Result<Vec<sql::Found>, RecordsError> {
        let rows = statement.query::<Postgres>().fetch(&self.pool);
        let columns = |row: PgRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        within(rows.and_then(async |row| columns(row)).try_collect()).await
    }
}

impl Records for PostgresRecords {
    fn ready(&self) -> Result<(), RecordsError> {
        match &*self.fault.load() {
            Some(fault) => Err(RecordsError::Down(fault.to_string())),
            None if self.queue.capacity() == 0 => Err(RecordsError::Overloaded),
            None => Ok(()),
        }
    }

    fn commit(&self, record: RunRecord) -> BoxFuture<'static, Result<(), RecordsError>> {
        let (done, outcome) = oneshot::channel();
        let mut line = Vec::new();
        let queued = line::write(record, &mut line).and_then(|()| {
            self.queue.try_send(Waiting { line, done }).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => RecordsError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => down("the gateway is ending"),
            })
        });
        async move {
            queued?;
            outcome.await.unwrap_or_else(|_| Err(down("the gateway is ending")))
        }
        .boxed()
    }

    fn get(&self, id: RunId) -> BoxFuture<'_, Result<Option<RunRecord>, RecordsError>> {
        async move { self.rows(sql::select_one(id)).await?.pop().map(sql::record).transpose() }.boxed()
    }

    fn list(&self, filter: RunFilter, limit: usize) -> BoxFuture<'_, Result<Page, RecordsError>> {
        async move { sql::page(self.rows(sql::select(&filter, limit, &rows::FILTERED)).await?, limit) }.boxed()
    }

    fn note_feedback(&self, id: RunId, feedback: Feedback) -> BoxFuture<'_, Result<Noted, RecordsError>> {
        async move {
            for (statement, noted) in sql::set_feedback(id, &feedback)? {
                let done = within(statement.query::<Postgres>().execute(&self.pool)).await?;
                if done.rows_affected() > 0 {
                    return Ok(noted);
                }
            }
            Ok(Noted::Unknown)
        }
        .boxed()
    }
}

/// The only one that adds records.
struct Writer {
    options: PgConnectOptions,
    fault: Arc<ArcSwapOption<String>>,
    /// Missing after a fault.
    connection: Option<PgConnection>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            if let Err(error) = self.connect().await {
                self.fail(&error);
            }
            tokio::select! {
                count = queue.recv_many(&mut batch, BATCH) => match count {
                    0 => return,
                    _ => self.commit(std::mem::take(&mut batch)).await,
                },
                () = sleep(ASK_EVERY) => self.ask().await,
            }
        }
    }

    async fn connect(&mut self) -> Result<&mut PgConnection, RecordsError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let mut connection = within(self.options.connect()).await?;
                let migrated = sql::migrate(&mut connection, sql::MIGRATIONS_TABLE, &MIGRATIONS);
                let version = timeout(PATIENCE, migrated).await.map_err(down)??;
                let (host, database) = (self.options.get_host(), self.options.get_database().unwrap_or_default());
                tracing::info!(host, database, version, "run records");
                self.fault.store(None);
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    fn fail(&mut self, error: &RecordsError) {
        self.connection = None;
        if self.fault.load().is_none() {
            tracing::error!(%error, "run records can't be stored");
        }
        self.fault.store(Some(Arc::new(error.to_string())));
    }

    /// Stores what waits and answers all who wait.
    async fn commit(&mut self, batch: Vec<Waiting>) {
        let (records, waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.line, waiting.done)).unzip();
        let mut outcome = self.try_commit(&records).await;
        if outcome.is_err() && self.fault.load().is_none() {
            // The server may have begun anew since it was last asked. Records that it has already stay as they are.
            self.connection = None;
            outcome = self.try_commit(&records).await;
        }
        if let Err(error) = &outcome {
            self.fail(error);
        }
        for done in waiting {
            // Whoever waited may have gone.
            let _ = done.send(outcome.clone());
        }
    }

    async fn try_commit(&mut self, records: &[Vec<u8>]) -> Result<(), RecordsError> {
        let connection = self.connect().await?;
        within(insert(connection, records)).await
    }

    /// Finds out whether the server is there; a connection that is not is made anew.
    async fn ask(&mut self) {
        if let Some(connection) = &mut self.connection
            && within(connection.ping()).await.is_err()
        {
            self.connection = None;
        }
    }
}

async fn within<T>(task: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, RecordsError> {
    match timeout(PATIENCE, task).await {
        Ok(outcome) => outcome.map_err(down),
        Err(_) => Err(down(format!("PostgreSQL did not answer within {PATIENCE:?}"))),
    }
}

async fn insert(connection: &mut PgConnection, records: &[Vec<u8>]) -> Result<(), sqlx::Error> {
    let mut rows = records.iter().filter_map(|line| rows::row(line));
    if records.len() <= rows::MOST {
        return rows::insert(rows.collect()).query::<Postgres>().execute(connection).await.map(drop);
    }
    let mut transaction = connection.begin().await?;
    loop {
        let some: Vec<_> = rows.by_ref().take(rows::MOST).collect();
        if some.is_empty() {
            return transaction.commit().await;
        }
        rows::insert(some).query::<Postgres>().execute(&mut *transaction).await?;
    }
}

async fn keep_forgetting(pool: PgPool, retention: Retention) -> Infallible {
    loop {
        if let Err(error) = forget(&pool, retention).await {
            tracing::debug!(%error, "old run records could not be forgotten");
        }
        sleep(FORGET_EVERY).await;
    }
}

/// Forgets what is too old, then the oldest until the rest is small enough, unless another gateway does.
async fn forget(pool: &PgPool, retention: Retention) -> Result<(), sqlx::Error> {
    // A transaction, as its end gives the lock back however it comes.
    let mut lock = pool.begin().await?;
    if !sqlx::query_scalar(FORGET_LOCK).fetch_one(&mut *lock).await? {
        return Ok(());
    }
    let old = retention.oldest(Timestamp::now());
    while sql::forget(old, sql::FORGOTTEN).query::<Postgres>().execute(pool).await?.rows_affected() > 0 {}
    loop {
        let (used, count): (i64, i64) = sqlx::query_as(USED).fetch_one(pool).await?;
        let excess = sql::excess(used.cast_unsigned(), count.cast_unsigned(), retention.size);
        let oldest = sql::forget(RunId(u128::MAX), excess).query::<Postgres>();
        if excess == 0 || oldest.execute(pool).await?.rows_affected() == 0 {
            return Ok(());
        }
    }
}
