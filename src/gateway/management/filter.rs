//! Which records a caller asks for.

use std::{collections::BTreeMap, str::FromStr};

use crate::domain::run_record::{Outcome, RunFilter};

/// How many records a page has if nobody says.
const USUAL: usize = 100;
/// How many it can have.
const MOST: usize = 1_000;
/// How many it can have with what was said, which may be long.
const MOST_WITH_CAPTURE: usize = 50;

/// Reads the filters of a query, and how many records it wants.
///
/// # Errors
/// The first one that can't be read, or doesn't exist, and what to write.
pub fn read(query: BTreeMap<String, String>) -> Result<(RunFilter, usize), String> {
    let (mut filter, mut limit) = (RunFilter::default(), None);
    filter.with_capture = match query.get("capture").map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(format!("capture = {other:?}: write true or false")),
    };
    let most = if filter.with_capture { MOST_WITH_CAPTURE } else { MOST };
    for (name, value) in query {
        match name.as_str() {
            "model" => filter.model = Some(value),
            "version" => filter.version = Some(value),
            "digest" => filter.digest = Some(value),
            "node" => filter.node = Some(value),
            "caller" => filter.caller = Some(value),
            "outcome" => filter.outcome = Some(outcome(&value)?),
            "since" => filter.since = Some(parse(&name, &value, "write a time such as 2026-11-20T20:00:00Z")?),
            "until" => filter.until = Some(parse(&name, &value, "write a time such as 2026-11-20T20:00:00Z")?),
            "cursor" => filter.after = Some(parse(&name, &value, "write the `next` of the page before")?),
            "limit" => {
                let given = value.parse().ok().filter(|limit| (1..=most).contains(limit));
                let advice = || format!("limit = {value:?}: write a number from 1 to {most}");
                limit = Some(given.ok_or_else(advice)?);
            }
            "capture" => {}
            _ => {
                let names = "model, version, digest, node, caller, outcome, since, until, cursor, limit and capture";
                return Err(format!("{name}: there is no such filter; there are {names}"));
            }
        }
    }
    Ok((filter, limit.unwrap_or(USUAL.min(most))))
}

fn outcome(name: &str) -> Result<Outcome, String> {
    let found = Outcome::ALL.into_iter().find(|outcome| outcome.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("outcome = {name:?}: write one of {}", Outcome::ALL.map(Outcome::name).join(", ")))
}

fn parse<T: FromStr>(name: &str, value: &str, advice: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} = {value:?}: {advice}"))
}
