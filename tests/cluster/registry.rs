//! The registry of versions: the command line from the first version to a restored one, lineage, concurrent writers, and
//! what becomes of versions on nodes that nobody wants any more.

use std::{collections::BTreeSet, path::Path, process::Stdio};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::{
    fleet::{Fleet, deployment_manifest, pull_manifest, version_manifest},
    namespace::{Namespace, SOON, condition},
    support::{
        Scratch,
        drover::{Drover, program},
        eventually,
        gguf::TinyLlama,
        kube_api::Server,
    },
    world::{self, on_both_apis},
};

on_both_apis! {
    a_model_goes_live_and_back_without_a_line_of_yaml,
    a_parent_is_there_first_and_may_go_later,
    concurrent_writers_lose_nothing,
    versions_that_nobody_wants_leave_the_nodes_and_come_back,
    a_model_that_embeds_moves_all_at_once,
    versions_without_room_for_both_have_nodes_of_their_own,
}

/// What `drover` printed and whether it was content.
struct Said {
    code: i32,
    out: String,
    err: String,
}

async fn drover(namespace: &Namespace, arguments: &[&str], input: Option<&str>) -> Said {
    let mut command = tokio::process::Command::new(program());
    command.args(arguments).args(["-n", &namespace.name]).env("KUBECONFIG", namespace.api.kubeconfig());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("drover starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that reads nothing may be gone already.
    let _ = stdin.write_all(input.unwrap_or_default().as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.expect("drover ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code().expect("a code"), out: text(output.stdout), err: text(output.stderr) }
}

impl Said {
    #[track_caller]
    fn done(self, words: &[&str]) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        words.iter().for_each(|word| assert!(self.out.contains(word), "{word} is not in {}", self.out));
        self.out
    }

    #[track_caller]
    fn refused(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        words.iter().for_each(|word| assert!(self.err.contains(word), "{word} is not in {}", self.err));
    }
}

async fn a_model_goes_live_and_back_without_a_line_of_yaml(server: Server) {
    let models = [("1", 41), ("2", 42)].map(|(tag, seed)| ("drover/alpha", tag, TinyLlama::new(seed)));
    let fleet = Fleet::start(server, &models).await;
    let (one, two) = (fleet.model("drover/alpha:1"), fleet.model("drover/alpha:2"));
    let run = async |arguments: &[&str]| drover(&fleet.namespace, arguments, None).await;
    for (name, model) in [("one", &one), ("two", &two)] {
        fleet.apply(&pull_manifest(name, model)).await;
        fleet.wait_ready("mpull", name).await;
    }

    // The first version: nothing is there before.
    run(&["deploy", "bot", "v1.0.0"]).await.refused(1, &["say what it is made of", "--tag"]);
    run(&["deploy", "bot", "1.0.0", "--tag", &one]).await.refused(2, &["v1.2.3 or v1.2.3-suffix"]);
    run(&["deploy", "Bot", "v1.0.0", "--tag", &one]).await.refused(2, &["a model looks like support-bot"]);
    let dry = run(&["deploy", "bot", "v1.0.0", "--tag", &one, "--dry-run", "-o", "yaml"]).await;
    let manifests = dry.done(&["kind: ModelVersion", "kind: ModelDeployment", "bot-v1.0.0"]);
    assert_eq!(fleet.kubectl(&["get", "mver,mdep", "-o", "name"]).await, "", "nothing was made");
    run(&["deploy", "bot", "v1.0.0", "--tag", &one]).await.done(&[
        "is registered as ModelVersion bot-v1.0.0",
        "is made",
        "serves all",
    ]);
    fleet.wait_ready("mdep", "bot").await;
    // What Git would hold is what was made.
    let applied = fleet
        .api
        .kubectl_ok(&["diff", "--server-side", "--force-conflicts", "-n", &fleet.name, "-f", "-"], Some(&manifests))
        .await;
    assert!(!applied.contains("version: v"), "{applied}");
    run(&["deploy", "bot", "v1.0.0", "--tag", &one]).await.done(&["nothing is changed", "serves all requests already"]);
    run(&["deploy", "bot", "v1.0.0", "--tag", &two]).await.refused(1, &["registered already", "source"]);

    // The second one, in a canary, with a parent by itself.
    assert_eq!(run(&["versions", "next", "bot", "--minor"]).await.done(&[]), "v1.1.0\n");
    let again = [
        "versions",
        "create",
        "bot",
        "v1.1.0",
        "--tag",
        &two,
        "--parameter",
        "temperature=0.5",
        "--changelog",
        "Shorter answers.",
        "--parent",
        "v1.0.0",
    ];
    run(&again).await.done(&["v1.1.0 is registered"]);
    run(&again).await.done(&["already, just so"]);
    run(&["versions", "create", "bot", "v1.1.0", "--tag", &one])
        .await
        .refused(1, &["registered already, with another", "source"]);
    fleet.until("mver", "bot-v1.1.0", "on both nodes", |s| s["readyNodes"] == 2).await;
    run(&["deploy", "bot", "v1.1.0", "--steps", "20:1h,50:1h"]).await.done(&[
        "asks for v1.1.0 now; before, for v1.0.0",
        "20 % of requests",
        "50 %",
        "after 1h",
    ]);
    fleet.until("mdep", "bot", "20 %", |s| s["canary"]["weight"] == 20).await;
    fleet.until("mver", "bot-v1.1.0", "a canary", |s| s["lifecycle"] == "Canary").await;
    fleet.until("mver", "bot-v1.0.0", "80 %", |s| s["weight"] == 80 && s["deployedAt"].is_string()).await;
    run(&["versions", "list", "bot"]).await.done(&["Canary (20 %)", "Deployed (80 %)", "PARENT"]);
    run(&["versions", "show", "bot", "v1.1.0"]).await.done(&[
        "Canary (20 %)",
        "v1.0.0",
        "Shorter answers.",
        "temperature",
    ]);
    run(&["versions", "diff", "bot", "v1.0.0", "v1.1.0"]).await.done(&[
        "-version: v1.0.0",
        "+version: v1.1.0",
        "+  temperature: 0.5",
    ]);
    run(&["versions", "lineage", "bot"]).await.done(&["v1.0.0", "└─ v1.1.0"]);
    run(&["versions", "lineage", "bot", "v1.1.0"]).await.done(&["v1.1.0", "v1.0.0"]);
    run(&["versions", "changelog", "bot"]).await.done(&["## v1.1.0", "Shorter answers.", "## v1.0.0"]);
    run(&["versions", "show", "bot", "v9.9.9"]).await.refused(1, &["has no version v9.9.9"]);

    let exported = run(&["registry", "export"]).await.done(&[]);
    let bot = serde_json::from_str::<Value>(&exported).expect("JSON")["models"]["bot"].clone();
    assert_eq!([&bot["current"], &bot["canary"]], ["v1.0.0", "v1.1.0"]);
    assert_eq!(bot["versions"]["v1.1.0"]["lifecycle"], "canary_20pct");
    assert_eq!(bot["versions"]["v1.0.0"]["lifecycle"], "deployed");
    assert_eq!(bot["history"][0]["version"], "v1.0.0");

    // It goes live at once on request; each change left a snapshot.
    run(&["deploy", "bot", "v1.1.0", "--immediate"]).await.done(&["asks for v1.1.0"]);
    fleet
        .until("mdep", "bot", "v1.1.0 has all", |s| s["stable"]["version"] == "v1.1.0" && s["phase"] == "Healthy")
        .await;
    fleet.until("mver", "bot-v1.0.0", "archived", |s| s["lifecycle"] == "Archived").await;
    let listed = run(&["registry", "snapshots", "bot", "-o", "json"]).await.done(&[]);
    let snapshots: Value = serde_json::from_str(&listed).expect("JSON");
    let seen: Vec<[&Value; 2]> = snapshots
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| [&s["snapshot"]["current"], &s["snapshot"]["canary"]])
        .collect();
    let (one_serves, first) = (json!("v1.0.0"), Value::Null);
    assert_eq!(seen, [[&one_serves, &json!("v1.1.0")], [&one_serves, &first], [&first, &first]]);
    let map = fleet.api.get_json("configmap", &fleet.name, "drover-registry-bot").await;
    assert_eq!(map["metadata"]["ownerReferences"][0]["kind"], "ModelDeployment");
    assert_eq!(map["metadata"]["labels"]["drover.dev/registry"], "bot");

    // The version before is deleted; the last snapshot brings it back, and requests with it.
    fleet.delete("mver", "bot-v1.0.0").await;
    run(&["registry", "restore", "--snapshot", "99"]).await.refused(1, &["needs --model"]);
    run(&["registry", "restore", "--model", "bot", "--snapshot", "99"]).await.refused(1, &["no such snapshot"]);
    run(&["registry", "restore", "--model", "bot"])
        .await
        .done(&["v1.0.0 is registered", "going back from v1.1.0 to v1.0.0"]);
    fleet.until("mdep", "bot", "v1.0.0 has all", |s| s["stable"]["version"] == "v1.0.0").await;
    fleet.until_version("v1.0.0").await;
    run(&["registry", "restore", "--model", "bot", "--snapshot", "2"])
        .await
        .done(&["0 registered again, 2 there already", "v1.0.0 serves already"]);

    // Elsewhere the same file makes the same versions; a second time it changes nothing, and what differs is told.
    let elsewhere = Namespace::new(fleet.api.clone(), "elsewhere").await;
    let import = async |text: &str| drover(&elsewhere, &["registry", "import", "-"], Some(text)).await;
    import(&exported).await.done(&["2 registered, 0 there already", "drover deploy bot v1.0.0"]);
    let made = elsewhere.get("mver", "bot-v1.1.0").await;
    assert_eq!(made["spec"]["source"]["ollama"]["digest"], bot["versions"]["v1.1.0"]["digest"], "pinned");
    import(&exported).await.done(&["0 registered, 2 there already"]);
    import(&exported.replace("Shorter answers.", "Longer answers."))
        .await
        .refused(1, &["v1.1.0", "another changelog", "left as it is"]);
    assert_eq!(elsewhere.get("mver", "bot-v1.1.0").await["metadata"]["generation"], 1, "nothing was rewritten");
    import(&exported.replace("canary_20pct", "half")).await.refused(1, &["canary_20pct (0 to 99)"]);
    import("{}")
        .await
        .refused(1, &["standard input", "format"].map(|word| if word == "standard input" { "-:" } else { word }));
}

/// A namespace with a controller, and no nodes.
async fn controlled(server: Server, purpose: &str, scratch: &Path) -> (Namespace, Drover) {
    let namespace = Namespace::new(world::api(server).await, purpose).await;
    let controller = Drover::controller(&namespace.api.kubeconfig(), &namespace.name, &[], scratch).await;
    (namespace, controller)
}

async fn a_parent_is_there_first_and_may_go_later(server: Server) {
    let scratch = Scratch::new();
    let (namespace, _controller) = controlled(server, "lineage", scratch.path()).await;
    let version = |version: &str, parent: &str| {
        let digest = format!("sha256:{}", "a".repeat(64));
        version_manifest(version, "a:1").replace(
            "source: {ollama: {tag: 'a:1'}}",
            &format!("parent: {parent}, source: {{ollama: {{tag: 'a:1', digest: '{digest}'}}}}"),
        )
    };
    let until = async |name: &str, reason: &'static str| {
        let name = format!("bot-{name}");
        let has = |s: &Value| {
            s["conditions"]
                .as_array()
                .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["reason"] == reason))
        };
        namespace.until("mver", &name, reason, has).await["status"].clone()
    };
    namespace.apply(&version("v1.1.0", "v1.0.0")).await;
    let waits = until("v1.1.0", "ParentMissing").await;
    assert!(waits["digest"].is_null(), "what may not be isn't resolved");
    assert!(condition(&waits, "Reconciling", "True") && !condition(&waits, "Stalled", "True"));

    // A parent that comes later heals it.
    namespace.apply(&version_manifest("v1.0.0", "a:0")).await;
    let healed = until("v1.1.0", "NotOnAnyNode").await;
    assert!(healed["digest"].is_string());

    // What is resolved stays so when its parent goes.
    namespace.delete("mver", "bot-v1.0.0").await;
    let orphan = namespace.until("mver", "bot-v1.1.0", "an orphan", |s| condition(s, "LineageBroken", "True")).await;
    assert_eq!(orphan["status"]["digest"], healed["digest"]);
    namespace.apply(&version_manifest("v1.0.0", "a:0")).await;
    namespace.until("mver", "bot-v1.1.0", "at home again", |s| !condition(s, "LineageBroken", "True")).await;

    // A parent must not be newer, and not descend from its child.
    namespace.apply(&version("v1.2.0", "v2.0.0")).await;
    until("v1.2.0", "ParentMissing").await;
    namespace.apply(&version_manifest("v2.0.0", "a:2")).await;
    assert!(condition(&until("v1.2.0", "ParentNewer").await, "Stalled", "True"));
    namespace.apply(&version("v3.0.0", "v3.1.0")).await;
    namespace.apply(&version("v3.1.0", "v3.0.0")).await;
    let cycle = until("v3.0.0", "ParentCycle").await;
    assert!(cycle["conditions"].to_string().contains("v3.0.0 from v3.1.0 from v3.0.0"), "{cycle}");
    until("v3.1.0", "ParentCycle").await;
    // The same number of another model is no parent.
    namespace
        .apply(&version("v4.0.0", "v1.0.0").replace("bot-v4.0.0", "other-v4.0.0").replace("model: bot", "model: other"))
        .await;
    namespace.until("mver", "other-v4.0.0", "alone", |s| s["conditions"][0]["reason"] == "ParentMissing").await;
    let said = drover(&namespace, &["versions", "lineage", "bot"], None).await.done(&["└─ v1.1.0"]);
    assert!(said.contains("newer than itself") && said.contains("lead back to itself"), "{said}");
}

async fn concurrent_writers_lose_nothing(server: Server) {
    let namespace = Namespace::new(world::api(server).await, "writers").await;
    let create = async |_: usize| {
        drover(&namespace, &["versions", "create", "bot", "--patch", "--tag", "a:1"], None)
            .await
            .done(&["is registered"])
    };
    let made = join_all((0..10).map(create)).await;
    let made: BTreeSet<String> =
        made.iter().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect();
    assert_eq!(made, (0..10).map(|patch| format!("v1.0.{patch}")).collect(), "each has a version of its own");

    let exported = drover(&namespace, &["registry", "export", "bot"], None).await.done(&["not_deployed"]);
    let copy = Namespace::new(namespace.api.clone(), "copies").await;
    let import =
        async |_: usize| drover(&copy, &["registry", "import", "-"], Some(&exported)).await.done(&["there already"]);
    let said = join_all((0..10).map(import)).await;
    let registered: usize =
        said.iter().flat_map(|text| text.lines()).filter(|line| line.contains("is registered as ModelVersion")).count();
    assert_eq!(registered, 10, "each version was made once: {said:?}");
    let again = drover(&copy, &["registry", "export"], None).await.done(&[]);
    assert_eq!(again, exported);
}

async fn versions_that_nobody_wants_leave_the_nodes_and_come_back(server: Server) {
    let models = [("1", 51), ("2", 52), ("3", 53)].map(|(tag, seed)| ("drover/alpha", tag, TinyLlama::new(seed)));
    let fleet = Fleet::start(server, &models).await;
    let mut aliases = Vec::new();
    for tag in ["1", "2", "3"] {
        let (model, version) = (fleet.model(&format!("drover/alpha:{tag}")), format!("v1.{tag}.0"));
        fleet.apply(&pull_manifest(&format!("alpha-{tag}"), &model)).await;
        fleet.apply(&version_manifest(&version, &model)).await;
        let found = fleet.until("mver", &format!("bot-{version}"), "on both nodes", |s| s["readyNodes"] == 2).await;
        aliases.push(found["status"]["alias"].as_str().expect("an alias").to_owned());
    }
    let deployment = |version: &str| {
        deployment_manifest(version, "1h").split(", strategy").next().expect("a beginning").to_owned()
            + ", rollbackWindow: 1, strategy: {immediate: {}}}\n"
    };
    for version in ["v1.1.0", "v1.2.0", "v1.3.0"] {
        fleet.apply(&deployment(version)).await;
        fleet.until("mdep", "bot", version, |s| s["stable"]["version"] == version && s["phase"] == "Healthy").await;
    }
    fleet.until_version("v1.3.0").await;
    fleet.until("mver", "bot-v1.1.0", "archived", |s| s["lifecycle"] == "Archived").await;
    // After a minute, in which gateways without news give up canaries.
    let patience = SOON * 2;
    for node in &fleet.nodes {
        eventually("v1.1.0 has left the node", patience, async || match node.digest_of(&aliases[0]).await {
            None => Ok(()),
            Some(digest) => Err(digest),
        })
        .await;
        assert!(node.digest_of(&aliases[1]).await.is_some(), "the version to go back to stays");
        assert!(node.digest_of(&aliases[2]).await.is_some(), "what serves stays");
        assert!(node.digest_of(&fleet.model("drover/alpha:1")).await.is_some(), "bytes are the pull's");
    }
    let gone = fleet.until("mver", "bot-v1.1.0", "on no node", |s| s["readyNodes"] == 0).await;
    assert!(condition(&gone["status"], "Ready", "True") && gone["status"]["conditions"][0]["reason"] == "Archived");
    // Asked for again, it comes back, and serves.
    fleet.apply(&deployment("v1.1.0")).await;
    fleet.until("mdep", "bot", "v1.1.0 again", |s| s["stable"]["version"] == "v1.1.0").await;
    fleet.until_version("v1.1.0").await;
}

async fn a_model_that_embeds_moves_all_at_once(server: Server) {
    let models = [("1", 61), ("2", 62)].map(|(tag, seed)| ("drover/vectors", tag, TinyLlama::new(seed).embedding()));
    let fleet = Fleet::start(server, &models).await;
    for (tag, version) in [("1", "v1.0.0"), ("2", "v1.1.0")] {
        let model = fleet.model(&format!("drover/vectors:{tag}"));
        fleet.apply(&version_manifest(version, &model)).await;
        // Ollama loads such a model by another path than others.
        fleet.apply(&deployment_manifest(version, "1h").replace("spec: {", "spec: {warm: true, ")).await;
        // Nothing declared brings the model, and the deployment says so.
        let waits = fleet
            .until("mdep", "bot", "waits for a pull", |s| s["conditions"].to_string().contains("create a ModelPull"))
            .await;
        assert!(waits["status"]["conditions"].to_string().contains(&model), "{waits}");
        fleet.apply(&pull_manifest(&format!("vectors-{tag}"), &model)).await;
        let all = |s: &Value| s["stable"]["version"] == version && s["stable"]["weight"] == 100;
        let moved = fleet.until("mdep", "bot", version, all).await;
        assert!(moved["status"]["canary"].is_null(), "an hour of 20 % was asked for: {moved}");
    }
    let done = fleet.until("mdep", "bot", "says why", |s| condition(s, "ImmediateOnly", "True")).await;
    assert!(condition(&done["status"], "Ready", "True"), "{done}");
}

async fn versions_without_room_for_both_have_nodes_of_their_own(server: Server) {
    let models = [("1", 71), ("2", 72)].map(|(tag, seed)| ("drover/alpha", tag, TinyLlama::new(seed)));
    let fleet = Fleet::start(server, &models).await;
    for (tag, version) in [("1", "v1.0.0"), ("2", "v1.1.0")] {
        let model = fleet.model(&format!("drover/alpha:{tag}"));
        fleet.apply(&pull_manifest(&format!("alpha-{tag}"), &model)).await;
        fleet.apply(&version_manifest(version, &model)).await;
        fleet.until("mver", &format!("bot-{version}"), "on both nodes", |s| s["readyNodes"] == 2).await;
    }
    // Each model has half a megabyte on disk, and more in memory.
    for node in ["node-1", "node-2"] {
        fleet.patch("onode", node, r#"{"spec": {"memory": "800kB"}}"#).await;
    }
    fleet.apply(&deployment_manifest("v1.0.0", "1h")).await;
    fleet.wait_ready("mdep", "bot").await;

    // With one node there is no room for a trial.
    fleet.patch("onode", "node-2", r#"{"spec": {"maintenance": true}}"#).await;
    fleet.until("onode", "node-2", "drained", |s| condition(s, "Ready", "False")).await;
    fleet.apply(&deployment_manifest("v1.1.0", "1h")).await;
    let cramped =
        fleet.until("mdep", "bot", "no room", |s| condition(s, "NoRoomForBoth", "True")).await["status"].clone();
    assert!(cramped["canary"].is_null() && condition(&cramped, "Ready", "True"), "{cramped}");
    let said = cramped["conditions"].to_string();
    for words in ["v1.0.0 takes", "v1.1.0 takes", "0.8 MiB of node-1", "add a node"] {
        assert!(said.contains(words), "{said}");
    }

    // With two, each version has one.
    fleet.patch("onode", "node-2", r#"{"spec": {"maintenance": false}}"#).await;
    let room = |s: &Value| s["canary"]["weight"] == 20 && !condition(s, "NoRoomForBoth", "True");
    fleet.until("mdep", "bot", "a canary", room).await;
    eventually("the canary answers", SOON, async || {
        let answer = fleet.chat(0, "bot").await;
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        if header("x-drover-version") == "v1.1.0" { Ok(()) } else { Err("v1.0.0 answers") }
    })
    .await;
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let answer = fleet.chat(0, "bot").await;
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        seen.insert((header("x-drover-version"), header("x-drover-node")));
    }
    let nodes: BTreeSet<&String> = seen.iter().map(|(_, node)| node).collect();
    assert_eq!((seen.len(), nodes.len()), (2, 2), "each version on one node: {seen:?}");
}
