//! Patches of the embedded API: what must hold for every object, every patch and every manager.

use drover::standalone::{
    patch::{
        Manager, Managers,
        apply::{Apply, apply},
        fields::{Set, compare},
        json_patch, merge_patch, strategic_merge,
    },
    schema::{Schema, duplicates, prune},
};
use proptest::{collection, prelude::*};
use serde_json::{Map, Value, json};

use crate::fuzz::schema;

fn small() -> impl Strategy<Value = Value> {
    (0..3).prop_map(|number| json!(number))
}

fn map(names: [&'static str; 2]) -> impl Strategy<Value = Value> {
    let name = prop_oneof![Just(names[0]), Just(names[1])];
    collection::btree_map(name, small(), 0..3).prop_map(|map| json!(map))
}

fn object() -> impl Strategy<Value = Value> {
    let items = collection::btree_map("[xyz]", proptest::option::of(small()), 0..3).prop_map(|items| {
        let item = |(key, value): (String, Option<Value>)| {
            let mut item = json!({ "k": key });
            if let Some(value) = value {
                item["v"] = value;
            }
            item
        };
        Value::Array(items.into_iter().map(item).collect())
    });
    let set = collection::btree_set("[xyz]", 0..3).prop_map(|set| json!(set));
    let whole = collection::vec(small(), 0..3).prop_map(|list| json!(list));
    let option = proptest::option::of::<BoxedStrategy<Value>>;
    let parts = (
        option(map(["b", "c"]).boxed()),
        option(map(["p", "q"]).boxed()),
        option(items.boxed()),
        option(set.boxed()),
        option(whole.boxed()),
        option(map(["s", "t"]).boxed()),
    );
    parts.prop_map(|(a, open, items, set, whole, any)| {
        let all = [("a", a), ("open", open), ("items", items), ("set", set), ("whole", whole), ("any", any)];
        Value::Object(all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    })
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..9).prop_map(|n| json!(n)),
        "[a-z$]{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        let name = prop_oneof![
            "[a-c]".prop_map(String::from),
            Just("$patch".into()),
            Just("items".into()),
            Just("k".into()),
            Just("op".into()),
            Just("path".into())
        ];
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            collection::btree_map(name, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn manager(name: &str) -> Manager {
    Manager { name: name.into(), applies: true, api_version: "v1".into(), subresource: String::new() }
}

fn applied(live: &Value, managers: Managers, config: &Value, name: &str) -> (Value, Managers) {
    let (schema, manager) = (schema(), manager(name));
    let request = Apply { config, manager: &manager, force: true, reset: &[], now: "now" };
    let applied = apply(live, managers, &request, Schema::new(&schema)).expect("a forced apply has no conflicts");
    (applied.object, applied.managers)
}

/// Without what is empty, which nobody owns for long.
fn bare(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), bare(value)));
            Value::Object(fields.filter(|(_, value)| *value != json!({}) && *value != json!([])).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(live in object(), config in object()) {
        let once = applied(&live, Managers::default(), &config, "a");
        prop_assert_eq!(&applied(&once.0, once.1.clone(), &config, "a"), &once);
    }

    #[test]
    fn what_is_applied_is_there_and_owned(live in object(), config in object()) {
        let schema = schema();
        let (object, managers) = applied(&live, Managers::default(), &config, "a");
        let differs = compare(&object, &config, Schema::new(&schema));
        prop_assert!(differs.added.is_empty() && differs.modified.is_empty(), "{} is not in {}", config, object);
        let owned = managers.fields_of(&manager("a")).cloned().unwrap_or_default();
        prop_assert_eq!(owned, Set::of(&config, Schema::new(&schema)));
    }

    #[test]
    fn what_is_applied_no_more_goes_and_what_others_own_stays(mine in object(), others in object()) {
        let (object, managers) = applied(&Value::Null, Managers::default(), &others, "b");
        let (object, managers) = applied(&object, managers, &mine, "a");
        let (object, managers) = applied(&object, managers, &json!({}), "a");
        let left = managers.fields_of(&manager("b")).cloned().unwrap_or_default();
        let mut unowned = Set::of(&bare(&object), Schema::new(&schema()));
        unowned.subtract(&left);
        prop_assert!(unowned.is_empty(), "{} is left, {:?} is owned", object, left.paths());
    }

    #[test]
    fn nobody_takes_a_field_of_another_without_force(mine in object(), others in object()) {
        let (live, managers) = applied(&Value::Null, Managers::default(), &others, "b");
        let (schema, a) = (schema(), manager("a"));
        let request = Apply { config: &mine, manager: &a, force: false, reset: &[], now: "now" };
        if let Ok(applied) = apply(&live, managers.clone(), &request, Schema::new(&schema)) {
            let before = managers.fields_of(&manager("b")).cloned().unwrap_or_default();
            let after = applied.managers.fields_of(&manager("b")).cloned().unwrap_or_default();
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn sets_of_fields_are_written_and_read(value in object()) {
        let set = Set::of(&value, Schema::new(&schema()));
        prop_assert_eq!(&Set::from_json(&set.to_json()), &set);
        prop_assert_eq!(&set.clone().union(set.clone()), &set);
        prop_assert_eq!(&set.intersection(&set), &set);
        let mut nothing = set.clone();
        nothing.subtract(&set);
        prop_assert!(nothing.is_empty());
    }

    #[test]
    fn a_value_does_not_differ_from_itself(value in object()) {
        prop_assert_eq!(compare(&value, &value, Schema::new(&schema())), Default::default());
    }

    #[test]
    fn merging_twice_is_merging_once(target in json(), patch in json()) {
        let mut once = target;
        merge_patch(&mut once, &patch);
        let mut twice = once.clone();
        merge_patch(&mut twice, &patch);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_strategic_merge_keeps_what_it_does_not_name(target in object(), patch in object()) {
        let schema = schema();
        let merged = strategic_merge(&target, &patch, Schema::new(&schema)).expect("every item has its key");
        let differs = compare(&merged, &patch, Schema::new(&schema));
        let only_lists = |mut set: Set| {
            ["f:set", "f:any", "f:a", "f:open"].iter().for_each(|step| set.remove(&[step]));
            set.is_empty()
        };
        prop_assert!(only_lists(differs.added) && only_lists(differs.modified), "{} is not in {}", patch, merged);
        for (name, value) in target.as_object().expect("a map") {
            prop_assert!(patch.get(name).is_some() || merged.get(name) == Some(value));
        }
    }

    #[test]
    fn nothing_that_is_sent_breaks_a_patch(target in json(), patch in json()) {
        let schema = schema();
        let schema = Schema::new(&schema);
        let _ = strategic_merge(&target, &patch, schema);
        let _ = json_patch(&target, patch.clone());
        let _ = Set::from_json(&patch);
        let _ = applied(&target, Managers::default(), &patch, "a");
        let mut pruned = patch.clone();
        prune(&mut pruned, schema);
        prop_assert!(prune(&mut pruned, schema).is_empty());
        prop_assert!(duplicates(patch.to_string().as_bytes()).is_empty());
    }
}
