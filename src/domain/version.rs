//! Versions of models: `vMAJOR.MINOR.PATCH[-suffix]`.

use std::cmp::Ordering;

use semver::Prerelease;

/// What the API server accepts as a version: what Semantic Versioning 2.0.0 does, after a `v`, without build metadata.
pub const PATTERN: &str = r"^v(0|[1-9][0-9]{0,8})[.](0|[1-9][0-9]{0,8})[.](0|[1-9][0-9]{0,8})(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)([.](0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?$";
/// The same as a rule in CEL.
pub const RULE: &str = r"self.matches('^v(0|[1-9][0-9]{0,8})[.](0|[1-9][0-9]{0,8})[.](0|[1-9][0-9]{0,8})(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)([.](0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?$')";
/// What to write instead of what breaks the rule.
pub const FORM: &str = "a version must look like v1.2.3 or v1.2.3-suffix";

/// The first version of a model.
const FIRST: &str = "v1.0.0";
/// The largest number that a version may have.
const LARGEST: u64 = 999_999_999;

/// The part of a version that the next one counts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing that callers notice but that it is better.
    Patch,
    /// It can more.
    Minor,
    /// Callers have to be changed.
    Major,
}

/// The order of two versions by Semantic Versioning 2.0.0; `None` when one of them is not a version.
pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    Some(parse(a)?.cmp(&parse(b)?))
}

/// Whether one version comes before another one.
pub fn is_older(version: &str, than: &str) -> bool {
    compare(version, than) == Some(Ordering::Less)
}

/// Whether the text is a version as the API server accepts it.
pub fn is_version(text: &str) -> bool {
    let fits = |version: semver::Version| {
        version.build.is_empty() && [version.major, version.minor, version.patch].iter().all(|part| *part <= LARGEST)
    };
    parse(text).is_some_and(fits)
}

/// The newest of these versions, by their own order.
pub fn newest<'a>(versions: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let parsed = versions.into_iter().filter_map(|version| Some((parse(version)?, version)));
    parsed.max().map(|(_, version)| version)
}

/// The version after the newest of these. A version with a suffix comes before the one without it, which is the next
/// one where it counts up the part that is asked for.
///
/// # Errors
/// When there is no larger number.
pub fn next<'a>(versions: impl IntoIterator<Item = &'a str>, part: Part) -> Result<String, String> {
    let Some(newest) = newest(versions) else { return Ok(FIRST.into()) };
    let Some(mut next) = parse(newest) else { return Ok(FIRST.into()) };
    let is_before_release = !next.pre.is_empty();
    next.pre = Prerelease::EMPTY;
    let is_released_by = match part {
        Part::Patch => is_before_release,
        Part::Minor => is_before_release && next.patch == 0,
        Part::Major => is_before_release && next.patch == 0 && next.minor == 0,
    };
    if !is_released_by {
        (next.major, next.minor, next.patch) = match part {
            Part::Patch => (next.major, next.minor, next.patch + 1),
            Part::Minor => (next.major, next.minor + 1, 0),
            Part::Major => (next.major + 1, 0, 0),
        };
    }
    let next = format!("v{next}");
    is_version(&next).then_some(next).ok_or_else(|| format!("{newest} has the largest number that a version may have"))
}

fn parse(version: &str) -> Option<semver::Version> {
    semver::Version::parse(version.strip_prefix('v')?).ok()
}
