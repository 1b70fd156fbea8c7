//! Objects on disk and in memory: what is read back is what was written, whatever it looks like and whenever it was.

use std::{collections::BTreeMap, path::Path};

use drover::standalone::{
    partial::Fields,
    storage::{Durability, Entry, Expected, Refused, Store, Write},
};
use proptest::{collection, prelude::*};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const RESOURCE: &str = "things";

/// A store with its writer, in a folder.
struct Running {
    store: Store,
    writer: JoinHandle<()>,
}

impl Running {
    async fn open(dir: &Path) -> Self {
        let (store, mut writer) = Store::open(&dir.join("state.db"), Durability::Normal).await.expect("a state");
        Self { store, writer: tokio::spawn(async move { writer.run().await }) }
    }

    /// Opened again, as after a restart.
    async fn again(self, dir: &Path) -> Self {
        drop(self.store);
        self.writer.await.expect("it ends when nobody can write any more");
        Self::open(dir).await
    }

    async fn put(&self, path: &str, object: &Value, delete: bool) -> Result<u64, Refused> {
        let known = self.store.get(RESOURCE, path);
        let expected = known.map_or(Expected::Absent, |entry| Expected::Revision(entry.revision));
        let (resource, path, object) = (RESOURCE.into(), path.to_owned(), object.clone());
        let write = Write { resource, path, expected, object, delete };
        self.store.commit(write).await.map(|entry| entry.revision)
    }
}

fn with_runtime<F: Future<Output = ()>>(act: impl FnOnce(TempDir) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(act(tempfile::tempdir().expect("a folder")));
}

/// An object with lists of managed fields of all lengths, some of them equal, and its fields in any order.
fn object() -> impl Strategy<Value = Value> {
    let list = (0..12usize, 0..3).prop_map(|(length, kind)| {
        let fields = (0..length).map(|at| (format!("f:field-{kind}-{at}"), json!({})));
        json!({ "manager": "m", "fieldsV1": Value::Object(fields.collect()) })
    });
    let metadata = [
        collection::vec(list, 0..4).prop_map(|lists| ("managedFields", json!(lists))).boxed(),
        Just(("name", json!("n"))).boxed(),
        Just(("uid", json!("0b7f"))).boxed(),
        Just(("resourceVersion", json!("7"))).boxed(),
        Just(("deletionTimestamp", json!("2026-01-01T00:00:00Z"))).boxed(),
        collection::btree_map("[ab\"é]{1,3}", "[a-c\\\\\u{1}]{0,3}", 0..4)
            .prop_map(|labels| ("labels", json!(labels)))
            .boxed(),
        collection::vec("[a-z]", 0..3)
            .prop_map(|uids| ("ownerReferences", uids.iter().map(|uid| json!({ "uid": uid })).collect()))
            .boxed(),
    ];
    let metadata =
        proptest::sample::subsequence(metadata.to_vec(), 0..=7).prop_shuffle().prop_flat_map(|fields| fields);
    let object = |metadata: Vec<(&'static str, Value)>| -> Value {
        metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<serde_json::Map<_, _>>().into()
    };
    (metadata.prop_map(object), any::<bool>(), "\\PC{0,9}").prop_map(|(metadata, first, text)| match first {
        true => json!({ "metadata": metadata, "spec": { "text": text, "fieldsV1": { "f:a": {} } } }),
        false => json!({ "spec": { "text": text, "resourceVersion": "" }, "metadata": metadata }),
    })
}

#[track_caller]
fn check_entry(entry: &Entry, object: &Value) {
    let mut wanted = object.clone();
    wanted["metadata"]["resourceVersion"] = json!(entry.revision.to_string());
    assert_eq!(entry.value(), wanted);
    let text = entry.body.to_vec();
    assert_eq!(text.len(), entry.body.size());
    let metadata = &object["metadata"];
    assert_eq!(*entry.about.uid, *metadata["uid"].as_str().unwrap_or_default());
    assert_eq!(entry.about.deleting, metadata["deletionTimestamp"].is_string());
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    assert!(owners.filter_map(|owner| owner["uid"].as_str()).eq(entry.about.owners.iter().map(|uid| &**uid)));
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        assert_eq!(entry.about.labels.get(key), value.as_str());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_object_is_what_was_written_also_after_a_restart(objects in collection::vec(object(), 1..20)) {
        with_runtime(|dir| async move {
            let store = Running::open(dir.path()).await;
            for (at, object) in objects.iter().enumerate() {
                store.put(&format!("n/{at}"), object, false).await.expect("it is stored");
            }
            let look = |store: &Running| {
                for (at, object) in objects.iter().enumerate() {
                    check_entry(&store.store.get(RESOURCE, &format!("n/{at}")).expect("it is there"), object);
                }
            };
            look(&store);
            look(&store.again(dir.path()).await);
        });
    }

    #[test]
    fn a_list_is_as_of_its_revision_whatever_happens_later(
        writes in collection::vec((0..6u8, any::<bool>()), 1..40), at in any::<prop::sample::Index>(), after in 0..6u8, restart: bool,
    ) {
        with_runtime(|dir| async move {
            let mut store = Running::open(dir.path()).await;
            let (mut now, mut then) = (BTreeMap::new(), Vec::new());
            for (number, (name, delete)) in writes.iter().enumerate() {
                let path = format!("n/{name}");
                let object = json!({ "metadata": {}, "number": number });
                if let Ok(revision) = store.put(&path, &object, *delete).await {
                    if *delete { now.remove(&path) } else { now.insert(path, revision) };
                }
                then.push((store.store.revision(), now.clone()));
            }
            if restart {
                store = store.again(dir.path()).await;
            }
            let (revision, wanted) = at.get(&then);
            let after = format!("n/{after}");
            let list = store.store.list_at(RESOURCE, "n/", &after, *revision).expect("it is remembered");
            let found: Vec<_> = list.entries.iter().map(|entry| (entry.path.clone(), entry.revision)).collect();
            let wanted: Vec<_> = wanted.clone().into_iter().filter(|(path, _)| *path > after).collect();
            assert_eq!(found, wanted);
        });
    }

    #[test]
    fn some_fields_are_read_as_they_stand(object in object(), names in collection::vec("(metadata|spec|none)", 0..3)) {
        let mut fields = Fields::default();
        for name in &names {
            fields.add(&[name.clone(), if name == "spec" { "text" } else { "labels" }.to_owned()]);
        }
        let text = object.to_string();
        let read = fields.read(text.as_bytes());
        prop_assert_eq!(&read, &fields.pick(&object));
        for (part, field) in [("spec", "text"), ("metadata", "labels")] {
            let wanted = object[part].get(field).filter(|_| names.iter().any(|name| name == part));
            prop_assert_eq!(read[part].get(field), wanted);
        }
        prop_assert_eq!(&Fields::all().read(text.as_bytes()), &object);
        prop_assert_eq!(&Fields::all().pick(&object), &object);
    }
}

#[test]
fn where_a_wanted_field_is_no_map_all_is_read() {
    let mut fields = Fields::default();
    fields.add(&["spec".into(), "model".into()]);
    fields.add(&["status".into()]);
    fields.add(&["status".into(), "phase".into()]);
    let (odd, even) =
        (json!({ "spec": null, "kind": 1 }), json!({ "status": { "a": [1] }, "spec": { "model": 1, "b": 2 }, "c": 3 }));
    assert_eq!(fields.read(odd.to_string().as_bytes()), odd);
    assert_eq!(fields.read(even.to_string().as_bytes()), json!({ "status": { "a": [1] }, "spec": { "model": 1 } }));
}

/// More changes than are remembered: the oldest go, in memory and on disk, and no object does.
#[test]
fn old_changes_are_forgotten_and_objects_are_not() {
    const CHANGES: usize = 11_000;
    with_runtime(|dir| async move {
        let store = Running::open(dir.path()).await;
        let kept = json!({ "metadata": { "name": "kept" } });
        let first = store.put("kept", &kept, false).await.expect("it is stored");
        store.put("gone", &kept, false).await.expect("it is stored");
        store.put("gone", &kept, true).await.expect("it is removed");
        let busy = |number: usize| json!({ "metadata": {}, "number": number });
        let writes = (0..CHANGES).map(|number| {
            let (store, path) = (&store, format!("busy-{}", number % 64));
            async move { store.put(&path, &busy(number), false).await.expect("it is stored") }
        });
        // Two writes of one object are 64 apart, so they never meet.
        let last =
            futures::StreamExt::collect::<Vec<_>>(futures::StreamExt::buffered(futures::stream::iter(writes), 64))
                .await;
        let last = *last.last().expect("a revision");
        assert!(
            store.store.changes_after(first, 1).is_none() && store.store.list_at(RESOURCE, "", "", first).is_none()
        );
        let store = store.again(dir.path()).await;
        assert_eq!(store.store.revision(), last);
        assert!(store.store.changes_after(first, 1).is_none());
        let (changes, reached) = store.store.changes_after(last - 10_000, CHANGES).expect("they are remembered");
        assert_eq!((changes.len(), reached), (10_000, last));
        assert!(changes.iter().all(|change| change.before.is_some()), "what was before is known");
        assert_eq!(store.store.list(RESOURCE, "", "").entries.len(), 65);
        check_entry(&store.store.get(RESOURCE, "kept").expect("it is there"), &kept);
        let pages = std::fs::metadata(dir.path().join("state.db")).expect("the file").len();
        assert!(pages < 4 << 20, "{pages} bytes for 10,500 small changes");
    });
}
