//! What a model's registry was before each change, as the entries of a ConfigMap: one for each snapshot, and one for
//! each version that one of them names, because what a version is doesn't change.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ModelRecord, VersionRecord};

/// So many are kept.
pub const SNAPSHOTS: usize = 10;
/// A ConfigMap has at most 1 MiB, and its names and owners take some of that.
const ROOM: usize = 900 * 1024;
const SNAPSHOT: &str = "snapshot.";
const VERSION: &str = "version.";

/// The snapshots of one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshots {
    taken: BTreeMap<i64, Snapshot>,
    specs: BTreeMap<String, Value>,
}

/// A model as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// When it was taken.
    pub taken_at: Timestamp,
    /// The model.
    #[serde(flatten)]
    pub model: ModelRecord,
}

impl Snapshots {
    /// Reads the entries of a ConfigMap; what isn't readable is left out.
    pub fn read(entries: &BTreeMap<String, String>) -> Self {
        let mut snapshots = Self::default();
        for (key, text) in entries {
            if let Some(version) = key.strip_prefix(VERSION) {
                snapshots.specs.extend(serde_json::from_str(text).ok().map(|spec| (version.to_owned(), spec)));
            } else if let Some(number) = key.strip_prefix(SNAPSHOT).and_then(|number| number.parse().ok()) {
                snapshots.taken.extend(serde_json::from_str(text).ok().map(|snapshot| (number, snapshot)));
            }
        }
        snapshots
    }

    /// The entries of a ConfigMap.
    pub fn entries(&self) -> BTreeMap<String, String> {
        let taken = self.taken.iter().filter_map(|(number, snapshot)| {
            Some((format!("{SNAPSHOT}{number}"), serde_json::to_string(snapshot).ok()?))
        });
        let specs = self.specs.iter().map(|(version, spec)| (format!("{VERSION}{version}"), spec.to_string()));
        taken.chain(specs).collect()
    }

    /// The numbers of the snapshots, the newest first.
    pub fn numbers(&self) -> Vec<i64> {
        self.taken.keys().rev().copied().collect()
    }

    /// One snapshot, with the specs of its versions.
    pub fn get(&self, number: i64) -> Option<Snapshot> {
        let mut snapshot = self.taken.get(&number)?.clone();
        for (version, record) in &mut snapshot.model.versions {
            record.spec = self.specs.get(version).cloned().unwrap_or_default();
        }
        Some(snapshot)
    }

    /// Takes another one. One that was taken under this number is replaced: what it was taken for did not happen.
    pub fn take(&mut self, number: i64, taken_at: Timestamp, mut model: ModelRecord) {
        for (version, VersionRecord { spec, .. }) in &mut model.versions {
            self.specs.insert(version.clone(), spec.take());
        }
        self.taken.insert(number, Snapshot { taken_at, model });
        while self.taken.len() > SNAPSHOTS {
            self.taken.pop_first();
        }
        self.forget_unnamed();
        while self.size() > ROOM && self.taken.len() > 1 {
            self.taken.pop_first();
            self.forget_unnamed();
        }
        self.make_room();
    }

    /// Whether this number was taken with the same content.
    pub fn has(&self, number: i64, model: &ModelRecord) -> bool {
        self.get(number).is_some_and(|snapshot| snapshot.model == *model)
    }

    fn forget_unnamed(&mut self) {
        let taken = &self.taken;
        self.specs.retain(|version, _| taken.values().any(|snapshot| snapshot.model.versions.contains_key(version)));
    }

    /// Leaves out what versions were, those first that served longest ago.
    fn make_room(&mut self) {
        let Some((_, newest)) = self.taken.last_key_value() else { return };
        let mut order: Vec<_> = newest.model.versions.iter().collect();
        let serves = |version: &String| [&newest.model.current, &newest.model.canary].contains(&&Some(version.clone()));
        order.sort_by_key(|(version, record)| Reverse((serves(version), record.deployed_at)));
        let mut order: Vec<String> = order.into_iter().map(|(version, _)| version.clone()).collect();
        while self.size() > ROOM {
            let Some(last) = order.pop() else { return };
            self.specs.remove(&last);
        }
    }

    fn size(&self) -> usize {
        self.entries().iter().map(|(key, text)| key.len() + text.len()).sum()
    }
}
