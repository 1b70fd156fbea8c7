//! The registry: parents, next versions, stages, what is kept on nodes, and what is written down and brought back.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use drover::domain::{
    registry::{
        Book, Candidate, Fate, Keeping, Lifecycle, LineageFault, ModelRecord, Present, SNAPSHOTS, Snapshots, Stage,
        VersionRecord, ancestors, check, drifted, fate, is_kept, stage,
    },
    rollout::{Canary, HistoryEntry, Outcome, Release, Side, State},
    version::{self, Part},
};
use jiff::Timestamp;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

const VERSIONS: [&str; 6] = ["v1.0.0", "v1.1.0", "v1.1.1", "v1.2.0-rc.1", "v1.2.0", "v2.0.0"];

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// Some of the versions, each with any parent or none, registered or not.
fn registered() -> impl Strategy<Value = BTreeMap<&'static str, Option<&'static str>>> {
    vec(prop::option::of(prop::option::of(0..VERSIONS.len())), VERSIONS.len()).prop_map(|found| {
        let entry = |(index, found): (usize, Option<Option<usize>>)| {
            Some((VERSIONS[index], found?.filter(|parent| *parent != index).map(|parent| VERSIONS[parent])))
        };
        found.into_iter().enumerate().filter_map(entry).collect()
    })
}

fn any_version() -> impl Strategy<Value = String> {
    "v(0|[1-9][0-9]{0,8})\\.(0|[1-9][0-9]{0,3})\\.(0|[1-9][0-9]{0,8})(-(0|[1-9][0-9]{0,4}|[a-z-]{1,4}[0-9]{0,3})(\\.[1-9a-c]{1,3}){0,2})?"
}

proptest! {
    #[test]
    fn a_parent_is_there_is_no_newer_and_leads_elsewhere(parents in registered()) {
        for (version, parent) in &parents {
            // Whoever follows parents for as many steps as there are versions has seen all there is to see.
            let mut reached = BTreeSet::new();
            let mut at = *parent;
            for _ in 0..parents.len() {
                reached.extend(at.filter(|at| parents.contains_key(at)));
                at = at.and_then(|at| parents.get(at).copied().flatten());
            }
            let is_newer = |parent: &str| VERSIONS.iter().position(|v| *v == parent) > VERSIONS.iter().position(|v| v == version);
            let expected = match parent {
                None => None,
                Some(parent) if !parents.contains_key(parent) => Some("ParentMissing"),
                Some(_) if reached.contains(version) => Some("ParentCycle"),
                Some(parent) if is_newer(parent) => Some("ParentNewer"),
                Some(_) => None,
            };
            let found = check(version, &parents).err();
            prop_assert_eq!(found.as_ref().map(LineageFault::reason), expected, "{} in {:?}", version, parents);
            if let Some(LineageFault::Cycle { path }) = &found {
                prop_assert!(path.len() > 2 && path.first() == path.last());
                for pair in path.windows(2) {
                    prop_assert_eq!(parents[&*pair[0]], Some(&*pair[1]));
                }
            }
            let line = ancestors(version, &parents);
            let distinct: BTreeSet<_> = line.iter().copied().collect();
            prop_assert_eq!(line.len(), distinct.len());
            prop_assert!(!line.contains(version));
            reached.remove(version);
            prop_assert_eq!(distinct, reached);
        }
    }

    #[test]
    fn a_parent_that_is_registered_later_heals(parents in registered(), parent in 0..VERSIONS.len()) {
        for version in parents.keys() {
            if check(version, &parents).is_err_and(|fault| fault.heals()) {
                let missing = parents[version].expect("a parent");
                let mut more = parents.clone();
                more.insert(missing, Some(VERSIONS[parent]).filter(|parent| *parent != missing));
                prop_assert!(!check(version, &more).is_err_and(|fault| fault.heals()));
            }
        }
    }

    #[test]
    fn the_next_version_is_new_valid_and_above_all(versions in vec(any_version(), 0..6), part in 0..3usize) {
        let part = [Part::Patch, Part::Minor, Part::Major][part];
        let all: Vec<&str> = versions.iter().map(String::as_str).collect();
        match version::next(all.iter().copied(), part) {
            Ok(next) => {
                prop_assert!(version::is_version(&next) && !next.contains('-'));
                for other in &all {
                    prop_assert_eq!(version::compare(&next, other), Some(Ordering::Greater), "{} after {}", next, other);
                }
            }
            Err(_) => prop_assert!(all.iter().any(|version| version.contains("999999999"))),
        }
    }

    #[test]
    fn the_pattern_takes_versions_and_nothing_else(text in prop_oneof![any_version(), "v[0-3]\\.[0-3]\\.[0-3]-[0-2.ab-]{0,6}", "v?[0-9.a-z+-]{0,12}"]) {
        let pattern = regex::Regex::new(version::PATTERN).expect("a pattern");
        prop_assert_eq!(version::is_version(&text), pattern.is_match(&text), "{}", text);
    }

    #[test]
    fn a_stage_is_read_as_it_was_written(lifecycle in 0..4usize, weight in 0..=99u8) {
        let (lifecycle, weight) = [
            (Lifecycle::NotDeployed, 0), (Lifecycle::Canary, weight), (Lifecycle::Deployed, 100), (Lifecycle::Archived, 0),
        ][lifecycle];
        let stage = Stage { lifecycle, weight, deployed_at: None };
        prop_assert_eq!(stage.to_string().parse(), Ok(stage));
    }

    #[test]
    fn only_deployments_move_a_version_and_what_served_is_never_new_again(
        states in vec(state(), 0..3), earlier in 0..4usize, version in 0..VERSIONS.len(),
    ) {
        let version = VERSIONS[version];
        let lifecycle = [Lifecycle::NotDeployed, Lifecycle::Canary, Lifecycle::Deployed, Lifecycle::Archived][earlier];
        let earlier = Stage { lifecycle, weight: 20, deployed_at: Some(at(5)) };
        let found = stage(version, &states, earlier);
        let is_stable = states.iter().any(|state| state.stable_version() == Some(version));
        let is_canary = states.iter().any(|state| state.canary_version() == Some(version));
        match found.lifecycle {
            Lifecycle::Deployed => prop_assert!(is_stable),
            Lifecycle::Canary => prop_assert!(is_canary),
            Lifecycle::NotDeployed => prop_assert!(lifecycle == Lifecycle::NotDeployed && !is_stable && !is_canary),
            Lifecycle::Archived => prop_assert!(!is_stable && !is_canary),
        }
        prop_assert_eq!(found.weight == 0, matches!(found.lifecycle, Lifecycle::NotDeployed | Lifecycle::Archived));
        prop_assert!(found.deployed_at >= Some(at(5)));
        prop_assert_eq!(stage(version, &states, found), found, "looked at again it stays");
    }

    #[test]
    fn whatever_may_serve_again_is_kept_and_the_window_is_full(
        state in state(), window in 1..4usize, wanted in 0..VERSIONS.len(), deployed in vec(prop::option::of(0..50i64), VERSIONS.len()),
    ) {
        let candidates = VERSIONS.iter().zip(&deployed).map(|(version, deployed)| {
            let earlier = Stage { lifecycle: if deployed.is_some() { Lifecycle::Archived } else { Lifecycle::NotDeployed }, weight: 0, deployed_at: deployed.map(at) };
            let Stage { lifecycle, deployed_at, .. } = stage(version, [&state], earlier);
            Candidate { version, lifecycle, deployed_at }
        });
        let all: Vec<Candidate<'_>> = candidates.collect();
        let keeping = Keeping { state: &state, wanted: vec![VERSIONS[wanted]], window };
        let (kept, gone): (Vec<&Candidate<'_>>, Vec<&Candidate<'_>>) = all.iter().partition(|candidate| is_kept(candidate, &all, &keeping));
        for candidate in &gone {
            prop_assert!(!state.versions_in_use().any(|used| used == candidate.version));
            prop_assert!(candidate.version != VERSIONS[wanted] && candidate.lifecycle == Lifecycle::Archived);
            let taken_back = state.history.iter().find(|entry| entry.release.version == candidate.version)
                .is_some_and(|entry| entry.outcome == Outcome::RolledBack);
            if let Some(deployed_at) = candidate.deployed_at && !taken_back {
                let later = kept.iter().filter(|other| other.deployed_at >= Some(deployed_at)).count();
                prop_assert!(later >= window, "{candidate:?} goes, and only {later} later ones stay");
            }
        }
    }

    #[test]
    fn what_was_written_down_and_is_there_is_the_same(spec in spec(), digest in prop::option::of("sha256:[0-9a-f]{8}")) {
        let record = record("bot-v1.0.0", spec.clone(), digest.clone());
        let Fate::Make(made) = fate(&record, None) else { panic!("it is made") };
        prop_assert_eq!(&made["source"]["ollama"]["digest"], &json!(digest));
        prop_assert_eq!(fate(&record, Some(&Present { spec: made.clone(), digest: None })), Fate::Same);
        prop_assert_eq!(fate(&record, Some(&Present { spec: spec.clone(), digest })), Fate::Same);
        let mut other = made;
        other["changelog"] = json!("another one");
        prop_assert_eq!(fate(&record, Some(&Present { spec: other, digest: None })), Fate::Differs(vec!["changelog".into()]));
        let book = Book::new([("bot".to_owned(), ModelRecord::new(None, [("v1.0.0".to_owned(), record)].into()))].into());
        let text = serde_json::to_string(&book).expect("JSON");
        prop_assert_eq!(Book::read(&text), Ok(book));
    }

    #[test]
    fn reading_a_registry_never_panics(text in ".{0,60}", entries in prop::collection::btree_map("(snapshot|version)\\.[0-9v.]{0,4}", ".{0,20}", 0..4)) {
        drop(Book::read(&text));
        Snapshots::read(&entries);
        drop(text.parse::<Stage>());
    }
}

proptest! {
    // Each case writes megabytes.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_last_snapshots_are_kept_whole_and_fit(taken in vec((0..40i64, 0..4usize, 0..120_000usize), 1..16)) {
        let mut snapshots = Snapshots::default();
        let mut numbers = BTreeSet::new();
        let mut last = 0;
        for (step, versions, size) in taken {
            last += step;
            numbers.insert(last);
            let versions = VERSIONS[..=versions].iter().map(|version| {
                let text = format!("{version}{}", "x".repeat(size));
                let spec = json!({ "model": "bot", "version": version, "systemPrompt": { "version": "1", "text": text } });
                ((*version).to_owned(), record(version, spec, None))
            });
            let model = ModelRecord { current: Some("v1.0.0".into()), ..ModelRecord::new(None, versions.collect()) };
            snapshots.take(last, at(last), model.clone());
            let read = Snapshots::read(&snapshots.entries());
            prop_assert_eq!(&read, &snapshots);
            let size: usize = read.entries().iter().map(|(key, text)| key.len() + text.len()).sum();
            prop_assert!(size <= 1_000_000, "{size} bytes");
            prop_assert!(read.numbers().len() <= SNAPSHOTS);
            prop_assert_eq!(read.numbers().first().copied(), Some(last));
            prop_assert!(read.has(last, &model), "the newest one has all");
            let newest: Vec<i64> = numbers.iter().rev().copied().take(read.numbers().len()).collect();
            prop_assert_eq!(read.numbers(), newest);
        }
        prop_assert!(snapshots.numbers().len() == SNAPSHOTS.min(numbers.len()) || snapshots.entries().values().map(String::len).sum::<usize>() > 100_000);
    }
}

fn record(name: &str, spec: Value, digest: Option<String>) -> VersionRecord {
    VersionRecord { name: name.into(), lifecycle: Stage::default(), digest, deployed_at: None, spec }
}

fn spec() -> impl Strategy<Value = Value> {
    (any::<Option<i16>>(), prop::option::of("[a-z]{1,5}"), vec("[a-z]{1,3}", 0..3)).prop_map(
        |(number, parent, tags)| {
            let mut spec =
                json!({ "model": "bot", "version": "v1.0.0", "source": { "ollama": { "tag": "a:1" } }, "tags": tags });
            if let Some(number) = number {
                spec["parameters"] = json!({ "num_ctx": number, "temperature": f64::from(number) / 8.0 });
            }
            if let Some(parent) = parent {
                spec["parent"] = json!(parent);
            }
            spec
        },
    )
}

/// A rollout with a past: what is live was deployed, and the version to go back to, too.
fn state() -> impl Strategy<Value = State> {
    (vec((0..VERSIONS.len(), any::<bool>()), 0..10), prop::option::of(0..VERSIONS.len())).prop_map(|(past, canary)| {
        let release = |index: usize| Release {
            version: VERSIONS[index].into(),
            tag: "a:1".into(),
            digest: format!("sha256:{index}"),
        };
        let entry = |(step, (index, deployed)): (usize, (usize, bool))| HistoryEntry {
            release: release(index),
            outcome: if deployed { Outcome::Deployed } else { Outcome::RolledBack },
            reason: String::new(),
            at: at(100 - step as i64),
            from: None,
            to: None,
            by: String::new(),
        };
        let history: Vec<HistoryEntry> = past.into_iter().enumerate().map(entry).collect();
        let stable = history.iter().find(|entry| entry.outcome == Outcome::Deployed).map(|entry| entry.release.clone());
        let canary = canary.map(release).filter(|canary| stable.as_ref().is_some_and(|s| s.version != canary.version));
        let weight = if canary.is_some() { 80 } else { 100 };
        State {
            stable: stable.map(|release| Side { release, weight }),
            canary: canary.map(|release| Canary {
                release,
                weight: 20,
                shadow: None,
                step: 0,
                step_started_at: at(100),
                lost_since: None,
            }),
            history,
            ..State::default()
        }
    })
}

#[test]
fn next_versions_are_those_that_people_expect() {
    let next = |versions: &[&str], part| version::next(versions.iter().copied(), part).expect("a version");
    for (versions, part, expected) in [
        (&[][..], Part::Patch, "v1.0.0"),
        (&["v1.2.3"], Part::Patch, "v1.2.4"),
        (&["v1.2.3", "v1.10.0", "v1.9.9"], Part::Minor, "v1.11.0"),
        (&["v1.2.3"], Part::Major, "v2.0.0"),
        (&["v1.2.3-rc.1"], Part::Patch, "v1.2.3"),
        (&["v1.2.3-rc.1"], Part::Minor, "v1.3.0"),
        (&["v1.3.0-rc.1", "v1.2.9"], Part::Minor, "v1.3.0"),
        (&["v2.0.0-rc.1"], Part::Major, "v2.0.0"),
        (&["v2.0.1-rc.1"], Part::Major, "v3.0.0"),
    ] {
        assert_eq!(next(versions, part), expected, "{versions:?} {part:?}");
    }
    assert!(version::next(["v1.2.999999999"], Part::Patch).is_err());
}

#[test]
fn stages_are_named_as_in_files() {
    for (text, lifecycle, weight) in [
        ("not_deployed", Lifecycle::NotDeployed, 0),
        ("canary_20pct", Lifecycle::Canary, 20),
        ("canary_50pct", Lifecycle::Canary, 50),
        ("deployed", Lifecycle::Deployed, 100),
        ("archived", Lifecycle::Archived, 0),
    ] {
        assert_eq!(text.parse(), Ok(Stage { lifecycle, weight, deployed_at: None }));
    }
    for bad in ["", "canary", "canary_100pct", "canary_-1pct", "Deployed", "canary_20"] {
        assert!(bad.parse::<Stage>().is_err(), "{bad}");
    }
}

#[test]
fn numbers_are_the_same_however_they_are_written() {
    let spec = |number: Value| json!({ "model": "bot", "version": "v1.0.0", "parameters": { "num_ctx": number } });
    let record = record("bot-v1.0.0", spec(json!(1.0)), None);
    assert_eq!(fate(&record, Some(&Present { spec: spec(json!(1)), digest: None })), Fate::Same);
    let differs = Fate::Differs(vec!["parameters".into()]);
    assert_eq!(fate(&record, Some(&Present { spec: spec(json!(2)), digest: None })), differs);
}

#[test]
fn drift_names_the_nodes() {
    use drover::domain::registry::Drift;
    assert_eq!(drifted("v1.0.0", "a:1", "sha256:0123456789abcdef", &[]), None);
    let names: Vec<String> = (1..=7).map(|number| format!("gpu-{number}")).collect();
    let drifts: Vec<Drift<'_>> = names.iter().map(|node| Drift { node, digest: "sha256:fedcba9876543210" }).collect();
    let said = drifted("v1.0.0", "a:1", "sha256:0123456789abcdef", &drifts).expect("it drifted");
    for words in ["gpu-1", "gpu-5", "2 more", "sha256:fedcba987654", "sha256:0123456789ab", "v1.0.0"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("gpu-6"), "{said}");
}
