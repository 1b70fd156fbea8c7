//! The table: what compiling promises, and what survives on disk.

use std::{collections::BTreeSet, fs, sync::Arc};

use drover::{
    api::{ApiKey, ModelDeployment, ModelPull, ModelVersion, OllamaNode},
    routing_table::{
        RoutingTable, Target,
        compile::{Objects, compile},
        load, save,
    },
};
use jiff::Timestamp;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

/// A node as the random worlds have it.
#[derive(Clone, Debug)]
struct Seen {
    namespace: bool,
    tier: bool,
    ready: Option<bool>,
    maintenance: bool,
    deleting: bool,
    /// By version: whether it has the alias, and whether with the right digest.
    holds: [Option<bool>; 3],
    loaded: bool,
}

#[derive(Clone, Debug)]
struct World {
    nodes: Vec<Seen>,
    resolved: [bool; 3],
    stable: usize,
    canary: Option<(usize, u8)>,
    selects_gpu: bool,
    revision: i64,
}

fn seen() -> impl Strategy<Value = Seen> {
    let mostly = |p| prop::bool::weighted(p);
    (
        any::<bool>(),
        any::<bool>(),
        prop::option::weighted(0.9, mostly(0.7)),
        mostly(0.2),
        mostly(0.1),
        any::<[Option<bool>; 3]>(),
        any::<bool>(),
    )
        .prop_map(|(namespace, tier, ready, maintenance, deleting, holds, loaded)| Seen {
            namespace,
            tier,
            ready,
            maintenance,
            deleting,
            holds,
            loaded,
        })
}

fn world() -> impl Strategy<Value = World> {
    let canary = prop::option::of((0..3usize, 1..100u8));
    (vec(seen(), 0..8), any::<[bool; 3]>(), 0..3usize, canary, any::<bool>(), 1..5i64).prop_map(
        |(nodes, resolved, stable, canary, selects_gpu, revision)| World {
            nodes,
            resolved,
            stable,
            canary,
            selects_gpu,
            revision,
        },
    )
}

fn namespace(own: bool) -> &'static str {
    if own { "models" } else { "others" }
}

fn digest(version: usize) -> String {
    format!("sha256:{version:064}")
}

fn alias(version: usize) -> String {
    format!("drover-00000000/bot:v1.{version}.0")
}

fn object<T: serde::de::DeserializeOwned>(kind: &str, metadata: Value, spec: Value, status: Value) -> Arc<T> {
    let value = json!({"apiVersion": "drover.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec, "status": status});
    Arc::new(serde_json::from_value(value).expect("an object of this kind"))
}

fn node(index: usize, seen: &Seen) -> Arc<OllamaNode> {
    let mut metadata = json!({
        "name": format!("node-{index}"), "namespace": namespace(seen.namespace),
        "labels": {"tier": if seen.tier { "gpu" } else { "cpu" }},
    });
    if seen.deleting {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let held = seen.holds.iter().enumerate().filter_map(|(version, held)| {
        let digest = if (*held)? { digest(version) } else { digest(99) };
        Some(json!({"alias": alias(version), "digest": digest, "loaded": seen.loaded}))
    });
    let ready = seen.ready.map(|ready| {
        json!({
            "type": "Ready", "status": if ready { "True" } else { "False" }, "reason": "R", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    });
    let models = json!([{"name": "tiny:latest", "digest": digest(usize::from(seen.loaded)), "sizeBytes": 1}]);
    let loaded = if seen.loaded { json!(["tiny:latest"]) } else { json!([]) };
    object(
        "OllamaNode",
        metadata,
        json!({"url": format!("http://10.0.0.{index}:11434"), "maintenance": seen.maintenance}),
        json!({
            "conditions": ready.into_iter().collect::<Vec<_>>(), "versions": held.collect::<Vec<_>>(),
            "models": models, "loaded": loaded,
        }),
    )
}

fn objects(world: &World) -> Objects {
    let versions = (0..3).map(|version| {
        let status = if world.resolved[version] {
            json!({"digest": digest(version), "alias": alias(version)})
        } else {
            json!({})
        };
        object::<ModelVersion>(
            "ModelVersion",
            json!({"name": format!("bot-v1.{version}.0"), "namespace": "models"}),
            json!({"model": "bot", "version": format!("v1.{version}.0"), "source": {"ollama": {"tag": "tiny"}}}),
            status,
        )
    });
    let side = |version: usize| json!({"version": format!("v1.{version}.0"), "tag": "tiny", "digest": digest(version)});
    let mut status = json!({"revision": world.revision, "rolloutId": "abc-1"});
    status["stable"] = side(world.stable);
    status["stable"]["weight"] = json!(100 - world.canary.map_or(0, |(_, weight)| weight));
    if let Some((version, weight)) = world.canary {
        status["canary"] = side(version);
        status["canary"]["weight"] = json!(weight);
        status["canary"]["step"] = json!(0);
        status["canary"]["stepStartedAt"] = json!("2026-01-01T00:00:00Z");
    }
    let selector = if world.selects_gpu { json!({"matchLabels": {"tier": "gpu"}}) } else { json!({}) };
    let deployment = object::<ModelDeployment>(
        "ModelDeployment",
        json!({"name": "bot", "namespace": "models"}),
        json!({"model": "bot", "version": "v1.0.0", "placement": {"nodeSelector": selector}}),
        status,
    );
    Objects {
        nodes: world.nodes.iter().enumerate().map(|(index, seen)| node(index, seen)).collect(),
        versions: versions.collect(),
        deployments: vec![deployment],
        ..Objects::default()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn is_usable(seen: &Seen) -> bool {
    seen.ready == Some(true) && !seen.maintenance && !seen.deleting
}

/// The names of the nodes that must serve a version, from the world rather than from the objects.
fn expected_holders(world: &World, version: usize) -> Vec<String> {
    let fine = |seen: &Seen| {
        is_usable(seen) && seen.namespace && (seen.tier || !world.selects_gpu) && seen.holds[version] == Some(true)
    };
    let nodes = world.nodes.iter().enumerate().filter(|(_, seen)| fine(seen));
    nodes.map(|(index, _)| format!("node-{index}")).collect()
}

fn holders(target: &Target) -> Vec<String> {
    target.holders.iter().map(|holder| holder.node.name.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_version_is_held_by_the_ready_nodes_with_its_verified_digest_and_by_no_other(world in world()) {
        let table = compile(&objects(&world), at(7));
        let deployment = table.namespace("models").deployments.get("bot").expect("a deployment that went live is there");
        let check = |target: &Target, version: usize| {
            prop_assert_eq!(&target.version, &Some(format!("v1.{version}.0")));
            prop_assert_eq!(&target.digest, &digest(version));
            if !world.resolved[version] {
                prop_assert!(target.holders.is_empty(), "its object is not there or knows no digest");
                return Ok(());
            }
            prop_assert_eq!(holders(target), expected_holders(&world, version));
            prop_assert_eq!(&target.model, &alias(version), "versions are called by their alias only");
            prop_assert!(target.holders.iter().all(|holder| holder.digest == target.digest));
            Ok(())
        };
        check(&deployment.stable, world.stable)?;
        prop_assert_eq!((deployment.revision, deployment.since), (world.revision, at(7)));
        prop_assert_eq!(deployment.canary.is_some(), world.canary.is_some());
        if let (Some(canary), Some((version, weight))) = (&deployment.canary, world.canary) {
            prop_assert_eq!(canary.weight, weight);
            check(&canary.target, version)?;
        }
    }

    #[test]
    fn a_node_that_is_away_drained_or_going_is_nowhere_in_the_table(world in world()) {
        let table = compile(&objects(&world), at(7));
        for own in [true, false] {
            let space = table.namespace(namespace(own));
            let fine = |(index, seen): (usize, &Seen)| {
                (is_usable(seen) && seen.namespace == own).then(|| format!("node-{index}"))
            };
            let expected: BTreeSet<String> = world.nodes.iter().enumerate().filter_map(fine).collect();
            prop_assert_eq!(space.nodes.keys().cloned().collect::<BTreeSet<_>>(), expected.clone());
            let tag = space.tags.get("registry.ollama.ai/library/tiny:latest");
            let held = tag.map(|tag| holders(tag).into_iter().collect::<BTreeSet<_>>()).unwrap_or_default();
            prop_assert!(held.is_subset(&expected));
            prop_assert_eq!(held.is_empty(), expected.is_empty());
        }
        prop_assert_eq!(&table.namespace("nobody").nodes.len(), &0);
    }

    #[test]
    fn a_tag_is_one_digest_that_of_its_pull_or_of_most_nodes_and_a_warning_names_the_others(
        world in world(), pulled in prop::option::of(0..3usize),
    ) {
        let mut objects = objects(&world);
        objects.pulls.extend(pulled.map(|version| {
            let resolved = json!({"tag": "tiny", "digest": digest(version), "sizeBytes": 1});
            let metadata = json!({"name": "tiny", "namespace": "models"});
            object::<ModelPull>("ModelPull", metadata, json!({"model": "tiny"}), json!({"resolved": resolved}))
        }));
        let table = compile(&objects, at(7));
        let fine: Vec<_> = world.nodes.iter().enumerate().filter(|(_, seen)| is_usable(seen) && seen.namespace).collect();
        let having = |loaded: bool| fine.iter().filter(move |(_, seen)| seen.loaded == loaded).map(|(n, _)| format!("node-{n}"));
        let of_pull = pulled.filter(|version| *version < 2 && having(*version == 1).next().is_some());
        let served = of_pull.map_or(having(true).count() > having(false).count(), |version| version == 1);
        match table.namespace("models").tags.get("registry.ollama.ai/library/tiny:latest") {
            None => prop_assert!(fine.is_empty()),
            Some(tag) => {
                prop_assert_eq!(&tag.digest, &digest(usize::from(served)));
                prop_assert!(tag.holders.iter().all(|holder| holder.digest == tag.digest));
                prop_assert_eq!(holders(tag), having(served).collect::<Vec<_>>());
                let warnings: Vec<_> = table.warnings.iter().filter(|warning| warning.contains(&tag.digest)).collect();
                let behind: Vec<_> = having(!served).collect();
                let named = warnings.iter().any(|warning| warning.contains(&format!(" {},", behind.join(", "))));
                prop_assert_eq!(named, !behind.is_empty(), "{:?}", warnings);
            }
        }
    }

    #[test]
    fn an_unchanged_revision_keeps_its_time(world in world(), bumped in any::<bool>()) {
        let earlier = compile(&objects(&world), at(1));
        let next = World { revision: world.revision + i64::from(bumped), ..world };
        let kept = compile(&objects(&next), at(9)).keep_times(&earlier);
        let since = |table: &RoutingTable| table.namespace("models").deployments.get("bot").map(|d| d.since);
        prop_assert_eq!(since(&kept), since(&earlier).map(|_| at(if bumped { 9 } else { 1 })));
    }

    #[test]
    fn without_canaries_nothing_else_is_lost(world in world()) {
        let table = compile(&objects(&world), at(1));
        let without = table.clone().without_canaries();
        let same = World { canary: None, ..world };
        prop_assert_eq!(without, compile(&objects(&same), at(1)));
    }

    #[test]
    fn what_is_saved_is_loaded_with_stable_versions_only(world in world()) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("table.json");
        let table = compile(&objects(&world), at(1));
        save(&path, &table).expect("saved");
        save(&path, &table).expect("saved over the first one");
        prop_assert_eq!(load(&path).expect("loaded"), Some(table.without_canaries()));
        prop_assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1, "a draft was left behind");
    }

    #[test]
    fn a_damaged_file_is_an_error(world in world(), cut in 0.0..1.0f64, junk in vec(any::<u8>(), 0..40)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("table.json");
        save(&path, &compile(&objects(&world), at(1))).expect("saved");
        let whole = fs::read(&path).expect("read");
        fs::write(&path, &whole[..(whole.len() as f64 * cut) as usize]).expect("written");
        prop_assert!(load(&path).is_err(), "half a table was taken");
        fs::write(&path, &junk).expect("written");
        prop_assert!(load(&path).is_err(), "junk was taken");
    }
}

/// A key of one of three hashes, that was made at this second; some have a pattern that can't be read.
fn api_key(index: usize, (hash, second, is_bad, gateways): (u8, i64, bool, Option<u32>)) -> Arc<ApiKey> {
    let metadata = json!({ "name": format!("key-{index}"), "namespace": "models", "creationTimestamp": at(second) });
    let models = if is_bad { json!(["bot["]) } else { json!(["bot*"]) };
    let spec = json!({ "hash": format!("sha256:{hash:064}"), "models": models, "requestsPerMinute": 10 });
    object("ApiKey", metadata, spec, json!({ "gateways": gateways }))
}

proptest! {
    #[test]
    fn a_hash_is_the_oldest_keys_with_its_share_of_the_limits(
        keys in vec((0..3u8, 0..4i64, any::<bool>(), prop::option::of(1..20u32)), 0..8), turn in any::<usize>(),
    ) {
        let mut objects: Vec<_> = keys.iter().enumerate().map(|(index, key)| api_key(index, *key)).collect();
        let by_age = {
            let mut order: Vec<usize> = (0..keys.len()).collect();
            order.sort_by_key(|index| (keys[*index].1, *index));
            order
        };
        // The order in which they are seen doesn't matter.
        objects.rotate_left(turn % keys.len().max(1));
        let table = compile(&Objects { keys: objects, ..Objects::default() }, at(9));
        let found = &table.namespace("models").keys;
        for hash in 0..3u8 {
            let oldest = by_age.iter().find(|index| keys[**index].0 == hash);
            let expected = oldest.filter(|index| !keys[**index].2).map(|index| format!("key-{index}"));
            let key = found.get(&format!("sha256:{hash:064}").parse().expect("a hash"));
            prop_assert_eq!(key.map(|key| key.name.clone()), expected);
            if let (Some(key), Some(index)) = (key, oldest) {
                let gateways = keys[*index].3.unwrap_or(1);
                prop_assert_eq!((key.gateways, key.limits.requests_per_minute), (gateways, Some((10 / gateways).max(1))));
            }
        }
        let json = serde_json::to_string(&table).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<RoutingTable>(&json).expect("a table"), table);
    }
}

#[test]
fn the_random_worlds_do_hold_canaries_and_holders() {
    let all = Seen {
        namespace: true,
        tier: true,
        ready: Some(true),
        maintenance: false,
        deleting: false,
        holds: [Some(true); 3],
        loaded: true,
    };
    let world = World {
        nodes: vec![all],
        resolved: [true; 3],
        stable: 0,
        canary: Some((1, 20)),
        selects_gpu: true,
        revision: 3,
    };
    let table = compile(&objects(&world), at(1));
    let deployment = &table.namespace("models").deployments["bot"];
    assert_eq!(deployment.stable.holders.len(), 1);
    assert_eq!(deployment.canary.as_ref().map(|canary| (canary.weight, canary.target.holders.len())), Some((20, 1)));
}

#[test]
fn no_file_is_no_table_yet() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(load(&folder.path().join("none.json")).expect("no error"), None);
    assert!(load(folder.path()).is_err(), "a folder is not a table");
}
