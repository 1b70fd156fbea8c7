//! Which records a caller asks for.

use std::{collections::BTreeMap, str::FromStr};

use crate::domain::run_record::{Outcome, RunFilter};

/// How many records a page has if nobody says.
const USUAL: usize = 100;
/// How many it can have.
const MOST: usize = 1_000;

/// Reads the filters of a query, and how many records it wants.
///
/// # Errors
/// The first one that can't be read, or doesn't exist, and what to write.
pub fn read(query: BTreeMap<String, String>) -> Result<(RunFilter, usize), String> {
    let (mut filter, mut limit) = (RunFilter::default(), USUAL);
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
                let advice = format!("write a number from 1 to {MOST}");
                limit = parse(&name, &value, &advice)?;
                if !(1..=MOST).contains(&limit) {
                    return Err(format!("limit = {value:?}: {advice}"));
                }
            }
            _ => {
                let names = "model, version, digest, node, caller, outcome, since, until, cursor and limit";
                return Err(format!("{name}: there is no such filter; there are {names}"));
            }
        }
    }
    Ok((filter, limit))
}

fn outcome(name: &str) -> Result<Outcome, String> {
    let found = Outcome::ALL.into_iter().find(|outcome| outcome.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("outcome = {name:?}: write one of {}", Outcome::ALL.map(Outcome::name).join(", ")))
}

fn parse<T: FromStr>(name: &str, value: &str, advice: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} = {value:?}: {advice}"))
}
