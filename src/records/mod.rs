//! Run records, kept: in a file of this machine (SQLite), or where several gateways share them (PostgreSQL).
//!
//! With SQLite a record is committed by one write to the end of a [`journal`] file, which costs microseconds and
//! survives the death of the process, and those that come together are one write ([`batch`]); the [`sqlite`] keeper moves what is there into the database soon after, many
//! records at once. With PostgreSQL ([`postgres`]) whatever waits is committed together.

pub mod audit;
mod batch;
mod journal;
pub mod json;
mod line;
mod postgres;
mod rows;
mod sql;
mod sqlite;

pub use postgres::Url;

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::{
    domain::run_id::RunId,
    ports::{Records, RecordsError},
};

/// Where records are kept, how surely and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where.
    pub place: Place,
    /// How surely.
    pub sync: Sync,
    /// How long.
    pub retention: Retention,
}

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this folder, which one process uses at a time.
    Folder(PathBuf),
    /// In the database of this URL.
    Postgres(Url),
}

/// What a committed record survives, besides the death of the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Nothing else.
    #[default]
    Normal,
    /// The death of the machine, or of the database server.
    Full,
}

impl FromStr for Sync {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "normal" => Ok(Self::Normal),
            "full" => Ok(Self::Full),
            _ => Err(()),
        }
    }
}

/// What becomes of requests while run records can't be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// They are refused.
    #[default]
    Refuse,
    /// They are answered without a record, and counted.
    Serve,
}

impl FromStr for WhenDown {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "serve" => Ok(Self::Serve),
            _ => Err(()),
        }
    }
}

/// How long records are kept; the first limit that is reached counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// From a run's start.
    pub age: Duration,
    /// Bytes of all records.
    pub size: u64,
}

impl Retention {
    /// The first id that isn't too old.
    fn oldest(self, now: Timestamp) -> RunId {
        now.checked_sub(self.age).map_or(RunId(0), RunId::first_at)
    }
}

/// The work behind a store: it runs until every handle of the store is gone, and nothing is stored without it.
pub type Keeper = BoxFuture<'static, Result<(), RecordsError>>;

/// Opens the store. One that can't be reached or written is no error: it says so when it is asked whether it is ready.
///
/// # Errors
/// When the folder can't be used at all, or another process uses it.
pub fn open(settings: Settings) -> Result<(Arc<dyn Records>, Keeper), String> {
    match &settings.place {
        Place::Folder(folder) => sqlite::open(folder, settings.sync, settings.retention),
        Place::Postgres(url) => Ok(postgres::open(url, settings.sync, settings.retention)),
    }
}

fn down(error: impl std::fmt::Display) -> RecordsError {
    RecordsError::Down(error.to_string())
}
