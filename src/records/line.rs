//! A record as one line: JSON; behind a tab what was said, so that lists needn't read it.

use serde::de::IgnoredAny;

use super::{down, json};
use crate::ports::{RecordsError, RunRecord};

/// Between a record and what was said, and at the end. JSON has none of these: in its strings they are escaped.
const TAB: char = '\t';
const END: char = '\r';
/// How a record begins, up to the 32 digits of its id.
const OPENING: &str = "{\"id\":\"";
const ID: usize = 32;

/// Such a line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The run.
    pub id: &'a str,
    /// The record without what was said, as JSON.
    pub record: &'a str,
    /// What was said, as JSON, where that is kept.
    pub capture: Option<&'a str>,
}

/// Writes a record as a line, without the line break.
///
/// # Errors
/// When it can't be written as JSON.
pub fn write(mut record: RunRecord, line: &mut Vec<u8>) -> Result<(), RecordsError> {
    let capture = record.capture.take();
    json::write(&record, line).map_err(down)?;
    if let Some(capture) = capture {
        line.push(TAB as u8);
        serde_json::to_writer(&mut *line, &capture).map_err(down)?;
    }
    line.push(END as u8);
    Ok(())
}

impl<'a> Line<'a> {
    /// Takes a line apart; nothing if it is none, as happens when a write was cut short.
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let line = str::from_utf8(line).ok()?;
        let (line, is_whole) = line.strip_suffix(END).map_or((line, false), |line| (line, true));
        let (record, capture) = line.split_once(TAB).map_or((line, None), |(record, said)| (record, Some(said)));
        if !is_whole {
            [Some(record), capture]
                .into_iter()
                .flatten()
                .try_for_each(|json| serde_json::from_str::<IgnoredAny>(json).map(drop))
                .ok()?;
        }
        let id = record.strip_prefix(OPENING)?.get(..ID)?;
        Some(Self { id, record, capture })
    }
}
