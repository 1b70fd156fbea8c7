//! Versions of models: `vMAJOR.MINOR.PATCH[-suffix]`.

use std::cmp::Ordering;

/// What the API server accepts as a version.
pub const PATTERN: &str =
    r"^v(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(-[0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?)?$";

/// The order of two versions by Semantic Versioning 2.0.0; `None` when one of them is not a version.
pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    Some(parse(a)?.cmp(&parse(b)?))
}

fn parse(version: &str) -> Option<semver::Version> {
    semver::Version::parse(version.strip_prefix('v')?).ok()
}
