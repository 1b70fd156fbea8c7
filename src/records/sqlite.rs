//! Run records in a folder: what the journal takes is moved into an SQLite database soon after.

use std::{
    cell::RefCell,
    fs::File,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use jiff::Timestamp;
use sqlx::{
    ConnectOptions, Connection, Row as _, Sqlite, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Keeper, Retention, Sync,
    batch::Batches,
    down,
    journal::Journal,
    line::{self, Line},
    sql,
};
use crate::{
    domain::{
        run_id::RunId,
        run_record::{Feedback, RunFilter},
    },
    ports::{Noted, Page, Records, RecordsError, RunRecord},
    supervisor::blocking,
};

const FILE: &str = "runs.db";
const MIGRATIONS: [(&str, &str); 1] = [("runs", include_str!("migrations/sqlite/1_runs.sql"))];
/// By what lists are filtered. It is read out of the records when that is wanted, which is seldom: no columns are written for it.
const FILTERED: sql::Columns = [
    "record ->> '$.resolved.model'",
    "record ->> '$.resolved.version'",
    "record ->> '$.resolved.digest'",
    "record ->> '$.resolved.node'",
    "record ->> '$.caller'",
    "record ->> '$.outcome'",
];
/// Of the database in bytes: a page has room for some records.
const PAGE: u32 = 16 << 10;
/// How many bytes of a journal are read at once.
const PIECE: usize = 64 << 10;
/// How many rows one statement adds: few, so that requests needn't wait for long for a processor that they share.
const MOST_ROWS: usize = 16;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 2;
/// So much memory is kept for the next line, in bytes: records are a kilobyte long, those with what was said up to megabytes.
const LONGEST_KEPT: usize = 16 << 10;
const READER_IDLE: Duration = Duration::from_secs(60);
/// How long records gather before they are moved: they are safe, and many at once cost less.
const GATHER: Duration = Duration::from_millis(250);
/// How long after a fault it is tried again.
const RETRY: Duration = Duration::from_secs(1);
const FORGET_EVERY: Duration = Duration::from_secs(60);
const USED: &str = "SELECT (page_count - freelist_count) * page_size, (SELECT count(*) FROM drover_runs)
    FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()";

thread_local! {
    /// For the line that is being written.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

type Flush = oneshot::Sender<Result<(), RecordsError>>;

struct SqliteRecords {
    batches: Arc<Batches>,
    pool: SqlitePool,
    flushes: mpsc::Sender<Flush>,
}

/// Takes the folder.
pub fn open(folder: &Path, sync: Sync, retention: Retention) -> Result<(Arc<dyn Records>, Keeper), String> {
    let journal = Arc::new(Journal::open(folder, sync)?);
    let file = folder.join(FILE);
    let options = SqliteConnectOptions::new().filename(&file).busy_timeout(BUSY_TIMEOUT).page_size(PAGE);
    // What SQLite would put into files of its own elsewhere holds records, too, and elsewhere may not be writable.
    let options = options.pragma("temp_store", "memory");
    let options = options.journal_mode(SqliteJournalMode::Wal).disable_statement_logging();
    let options = options.synchronous(match sync {
        Sync::Normal => SqliteSynchronous::Normal,
        Sync::Full => SqliteSynchronous::Full,
    });
    let pool = SqlitePoolOptions::new().max_connections(READERS).idle_timeout(READER_IDLE);
    let pool = pool.connect_lazy_with(options.clone());
    let (flushes, asked) = mpsc::channel(1);
    let batches = Arc::new(Batches::new(journal.clone()));
    let mover = Mover { journal, file, options, retention, connection: None };
    Ok((Arc::new(SqliteRecords { batches, pool, flushes }), mover.run(asked).boxed()))
}

impl SqliteRecords {
    /// Ends when all that was committed can be read.
    async fn flush(&self) -> Result<(), RecordsError> {
        let ended = || down("the gateway is ending");
        let (flush, done) = oneshot::channel();
        self.flushes.send(flush).await.map_err(|_| ended())?;
        done.await.unwrap_or_else(|_| Err(ended()))
    }

    async fn rows(&self, statement: sql::Statement) -> Result<Vec<sql::Found>, RecordsError> {
        self.flush().await?;
        let rows = statement.query::<Sqlite>().fetch(&self.pool);
        let columns = |row: SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        rows.and_then(async |row| columns(row)).try_collect().await.map_err(down)
    }
}

impl Records for SqliteRecords {
    fn ready(&self) -> Result<(), RecordsError> {
        self.batches.ready()
    }

    fn commit(&self, record: RunRecord) -> BoxFuture<'static, Result<(), RecordsError>> {
        let added = LINE.with_borrow_mut(|line| {
            line.clear();
            line.push(b'\n');
            let added = line::write(record, line).map(|()| self.batches.add(line));
            line.shrink_to(LONGEST_KEPT);
            added
        });
        async move { added?.settled().await }.boxed()
    }

    fn get(&self, id: RunId) -> BoxFuture<'_, Result<Option<RunRecord>, RecordsError>> {
        async move { self.rows(sql::select_one(id)).await?.pop().map(sql::record).transpose() }.boxed()
    }

    fn list(&self, filter: RunFilter, limit: usize) -> BoxFuture<'_, Result<Page, RecordsError>> {
        async move { sql::page(self.rows(sql::select(&filter, limit, &FILTERED)).await?, limit) }.boxed()
    }

    fn note_feedback(&self, id: RunId, feedback: Feedback) -> BoxFuture<'_, Result<Noted, RecordsError>> {
        async move {
            self.flush().await?;
            for (statement, noted) in sql::set_feedback(id, &feedback)? {
                let done = statement.query::<Sqlite>().execute(&self.pool).await.map_err(down)?;
                if done.rows_affected() > 0 {
                    return Ok(noted);
                }
            }
            Ok(Noted::Unknown)
        }
        .boxed()
    }
}

/// Moves records from the journal to the database, and forgets the oldest.
struct Mover {
    journal: Arc<Journal>,
    file: PathBuf,
    options: SqliteConnectOptions,
    retention: Retention,
    /// Missing until it is needed, and after a fault.
    connection: Option<SqliteConnection>,
}

impl Mover {
    async fn run(mut self, mut asked: mpsc::Receiver<Flush>) -> Result<(), RecordsError> {
        let mut forget = interval(FORGET_EVERY);
        forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_fault = self.journal.is_faulty() || self.journal.database_fault.load().is_some();
            let is_idle = self.journal.waiting() == 0 && !has_fault;
            tokio::select! {
                flush = asked.recv() => match flush {
                    // Whoever asked may have gone.
                    Some(flush) => drop(flush.send(self.store().await)),
                    None => break,
                },
                () = self.journal.filled.notified(), if is_idle => {}
                () = sleep(if has_fault { RETRY } else { GATHER }), if !is_idle => {
                    if self.journal.is_faulty() {
                        let journal = self.journal.clone();
                        // Told of already.
                        let _ = blocking(move || { journal.try_again(); Ok(()) }).await;
                    }
                    // Told of already.
                    let _ = self.store().await;
                }
                _ = forget.tick(), if !has_fault => self.forget().await,
            }
        }
        self.store().await
    }

    /// Moves all that was committed.
    async fn store(&mut self) -> Result<(), RecordsError> {
        let outcome = self.try_store().await;
        if let Err(error) = &outcome {
            self.connection = None;
            if self.journal.database_fault.load().is_none() {
                tracing::error!(file = %self.file.display(), %error, "run records wait in the journal");
            }
        }
        let fault = outcome.as_ref().err().map(|error| Arc::new(error.to_string()));
        self.journal.database_fault.store(fault);
        outcome
    }

    async fn try_store(&mut self) -> Result<(), RecordsError> {
        let journal = self.journal.clone();
        let connection = self.connection().await?;
        journal.turn_over().await?;
        while let Some(records) = journal.oldest().await? {
            insert(connection, records).await.map_err(down)?;
            journal.remove_oldest().await?;
        }
        Ok(())
    }

    async fn connection(&mut self) -> Result<&mut SqliteConnection, RecordsError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                // Made here, as records may hold what was said, which is nobody else's business.
                File::options().create(true).append(true).mode(0o600).open(&self.file).map_err(down)?;
                let mut connection = self.options.connect().await.map_err(down)?;
                let version = sql::migrate(&mut connection, sql::MIGRATIONS_TABLE, &MIGRATIONS).await?;
                tracing::info!(file = %self.file.display(), version, "run records");
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Forgets what is too old or too much; what comes meanwhile is not kept waiting.
    async fn forget(&mut self) {
        loop {
            let retention = self.retention;
            let forgotten = match self.connection().await {
                Ok(connection) => forget_some(connection, retention).await.map_err(down),
                Err(error) => Err(error),
            };
            match forgotten {
                Ok(true) if self.journal.waiting() == 0 || self.store().await.is_ok() => {}
                Ok(_) => return,
                Err(error) => return tracing::warn!(%error, "old run records could not be forgotten"),
            }
        }
    }
}

/// Adds the records of a journal's file.
async fn insert(connection: &mut SqliteConnection, journal: File) -> Result<(), sqlx::Error> {
    let mut lines = BufReader::with_capacity(PIECE, tokio::fs::File::from_std(journal)).split(b'\n');
    let mut transaction = connection.begin().await?;
    loop {
        let mut rows = Rows::default();
        while rows.count < MOST_ROWS
            && let Some(line) = lines.next_segment().await?
        {
            Line::read(&line).into_iter().for_each(|line| rows.push(line));
        }
        if rows.count == 0 {
            return transaction.commit().await;
        }
        rows.insert().query::<Sqlite>().execute(&mut *transaction).await?;
    }
}

/// Records that one statement adds.
#[derive(Default)]
struct Rows {
    values: Vec<Option<String>>,
    count: usize,
}

impl Rows {
    fn push(&mut self, Line { id, record, capture }: Line<'_>) {
        self.values.extend([Some(id.to_owned()), Some(record.to_owned()), capture.map(str::to_owned)]);
        self.count += 1;
    }

    /// One that is there already stays as it is. (The places of values have no numbers: with them, SQLite would search a
    /// list of all of them for each. And a statement that could fail half way would have it write every page that changes to
    /// another file first, for the way back: `OR IGNORE` can't fail.)
    fn insert(self) -> sql::Statement {
        let places = vec!["(?, ?, ?)"; self.count].join(", ");
        let text = format!("INSERT OR IGNORE INTO drover_runs (id, record, capture) VALUES {places}");
        sql::Statement { text: text.into(), values: self.values }
    }
}

/// Forgets some records that are too old or, when there are none, too much; whether there may be more.
async fn forget_some(connection: &mut SqliteConnection, retention: Retention) -> Result<bool, sqlx::Error> {
    let old = sql::forget(retention.oldest(Timestamp::now()), sql::FORGOTTEN).query::<Sqlite>();
    if old.execute(&mut *connection).await?.rows_affected() > 0 {
        return Ok(true);
    }
    let (used, count): (i64, i64) = sqlx::query_as(USED).fetch_one(&mut *connection).await?;
    let excess = sql::excess(used.cast_unsigned(), count.cast_unsigned(), retention.size);
    let oldest = sql::forget(RunId(u128::MAX), excess).query::<Sqlite>();
    Ok(excess > 0 && oldest.execute(connection).await?.rows_affected() > 0)
}
