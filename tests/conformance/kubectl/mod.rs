//! kubectl itself on both, in each of its versions: what it prints must be the same.

mod manifests;

use std::{path::Path, sync::LazyLock};

use futures::future::join_all;
use regex::Regex;

use crate::{
    requests::namespace,
    sides::{Side, embedded, real, scenario},
    support::Scratch,
};
use manifests::{CHANGED, CONFIG, CONFIG_WITHOUT, EVENT, GENERATED, HELD, MORE, PULL, TWO};

/// The oldest that is supported, one between, and the newest.
const VERSIONS: [&str; 3] = ["kubectl-1.32", "kubectl-1.34", "kubectl"];

/// What a command printed, without what differs from run to run.
async fn printed(
    (side, version, namespace): (&Side, &str, &str),
    line: &str,
    stdin: &str,
    env: &[(&str, &str)],
) -> String {
    static VARYING: LazyLock<Regex> = LazyLock::new(|| {
        let parts = [
            r"\b\d+[dhm]?\d*s\b",
            r"\b\d+d(\d+h)?\b",
            r#"(?m)^.*(uid|resourceVersion|UID|Resource Version|creationTimestamp|Creation Timestamp|Time|time)"?:.*$"#,
            r"\d{4}-\d\d-\d\dT[0-9:.]+Z",
            r"(?m)^(---|\+\+\+|diff) .*$",
            r"(?m)^.*Warning: --subresource is beta.*$",
            r"/[^ ]*kubectl-edit-[^ ]*",
            r"made-[a-z0-9]+",
            r"(?i)https://127\.0\.0\.1:\d+",
        ];
        Regex::new(&parts.join("|")).expect("a pattern")
    });
    let arguments: Vec<&str> = line.split(' ').chain(["-n", namespace]).collect();
    let (success, text) = side.run(version, &arguments, &stdin.replace("NS", namespace), env).await;
    let text = VARYING.replace_all(&text, "#").replace(namespace, "NS");
    // Columns are as wide as the widest age.
    let mut lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    if line.starts_with("describe cm") {
        // The entries are in no certain order.
        lines.sort();
    }
    format!("{} {}", if success { "ok" } else { "failed" }, lines.join("\n"))
}

/// Runs the commands one after another, with each version in a namespace of its own on both APIs.
async fn same(commands: &[(&str, &str)], env: &[(&str, &str)]) {
    let sides = [real().await, embedded().await];
    let differences = join_all(VERSIONS.map(|version| differences(&sides, version, commands, env))).await.concat();
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

async fn differences(sides: &[Side; 2], version: &str, commands: &[(&str, &str)], env: &[(&str, &str)]) -> Vec<String> {
    let namespace = namespace(sides).await;
    let mut differences = Vec::new();
    for (line, stdin) in commands {
        let [real, embedded] = sides.each_ref().map(|side| printed((side, version, &namespace), line, stdin, env));
        let (real, embedded) = tokio::join!(real, embedded);
        if real != embedded {
            differences.push(format!("=== {version} {line}\n--- real\n{real}\n--- embedded\n{embedded}"));
        }
    }
    differences
}

#[test]
fn each_version_knows_the_server() {
    scenario(|| async {
        let side = embedded().await;
        for (version, client) in VERSIONS.iter().zip(["v1.32.", "v1.34.", "v1.36."]) {
            let (success, text) = side.run(version, &["version"], "", &[]).await;
            assert!(success && text.contains(&format!("Client Version: {client}")), "{version}: {text}");
            assert!(text.contains("Server Version: v1.36."), "{version}: {text}");
        }
    });
}

#[test]
fn objects_are_applied_shown_and_deleted() {
    scenario(|| async {
        same(
            &[
                ("apply -f -", PULL),
                ("apply -f -", PULL),
                ("get mpull", ""),
                ("get mpull -o wide", ""),
                ("get mpull -o name", ""),
                ("get mpull llama -o yaml", ""),
                ("get mpull llama -o jsonpath={.spec.model}", ""),
                ("get mpull --chunk-size=1", ""),
                ("get mpull llama -o json", ""),
                ("get mpull -o custom-columns=N:.metadata.name,M:.spec.model", ""),
                ("get mpull -o go-template={{range.items}}{{.spec.model}}{{end}}", ""),
                ("get mpull --show-labels", ""),
                ("get mpull -L tier --sort-by=.metadata.name", ""),
                ("get mpull,cm -o name", ""),
                ("get mpull none --ignore-not-found", ""),
                ("get drover", ""),
                ("get mpull -l tier=gpu -o name", ""),
                ("get mpull -l tier!=gpu -o name", ""),
                ("get mpull --field-selector metadata.name=llama -o name", ""),
                ("get mpull none", ""),
                ("diff -f -", CHANGED),
                ("apply -f -", CHANGED),
                ("get mpull llama -o yaml --show-managed-fields", ""),
                ("describe mpull llama", ""),
                ("label mpull llama a=b", ""),
                ("label mpull llama a=c", ""),
                ("label mpull llama a=c --overwrite", ""),
                ("label mpull llama a-", ""),
                ("annotate mpull llama note=x", ""),
                (r#"patch mpull llama --type=merge -p {"spec":{"required":true}}"#, ""),
                (r#"patch mpull llama --type=json -p [{"op":"replace","path":"/spec/required","value":false}]"#, ""),
                (r#"patch mpull llama -p {"spec":{"required":true}}"#, ""),
                (r#"patch mpull llama --subresource=status --type=merge -p {"status":{"phase":"Ready","conditions":[{"type":"Ready","status":"True","reason":"R","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#, ""),
                ("wait mpull/llama --for=condition=Ready --timeout=5s", ""),
                ("wait mpull/llama --for=jsonpath={.status.phase}=Ready --timeout=5s", ""),
                ("get mpull", ""),
                ("replace -f -", CHANGED),
                ("replace --force -f -", CHANGED),
                ("get mpull llama -o yaml", ""),
                ("create -f -", PULL),
                ("create -f -", GENERATED),
                ("delete mpull llama --cascade=background", ""),
                ("delete mpull llama", ""),
                ("delete mpull llama --ignore-not-found", ""),
                ("delete mpull --all", ""),
            ],
            &[],
        )
        .await;
    });
}

#[test]
fn what_is_no_longer_applied_goes() {
    scenario(|| async {
        same(
            &[
                ("apply -f -", MORE),
                ("apply -f -", CHANGED),
                ("get mpull llama -o yaml", ""),
                ("apply view-last-applied mpull llama", ""),
                ("apply --server-side -f -", MORE),
                ("apply --server-side --force-conflicts -f -", MORE),
                ("apply --server-side --force-conflicts -f -", CHANGED),
                ("get mpull llama -o yaml --show-managed-fields", ""),
                ("apply -f -", CONFIG),
                ("apply -f -", CONFIG_WITHOUT),
                ("get cm settings -o yaml", ""),
                ("apply -f -", TWO),
                ("apply -f - --prune -l set=x --prune-allowlist=core/v1/ConfigMap", PULL),
                ("get mpull,cm -l set=x -o name", ""),
                ("delete -f - --ignore-not-found", TWO),
            ],
            &[],
        )
        .await;
    });
}

#[test]
fn objects_are_labelled_watched_for_and_deleted_together() {
    scenario(|| async {
        same(
            &[
                ("apply -f -", TWO),
                ("label mpull,cm -l set=x more=y", ""),
                ("annotate cm --all a=b", ""),
                ("annotate cm two a=c", ""),
                ("annotate cm two a=c --overwrite", ""),
                ("annotate cm two a-", ""),
                ("get cm -l set=x,more=y -o yaml", ""),
                ("wait mpull/one --for=condition=Ready --timeout=3s", ""),
                ("wait mpull/one --for=jsonpath={.spec.model}=a --timeout=5s", ""),
                ("wait mpull/one --for=create --timeout=5s", ""),
                ("wait mpull/none --for=delete --timeout=5s", ""),
                ("apply -f -", HELD),
                ("delete mpull held --wait=false", ""),
                ("wait mpull/held --for=delete --timeout=3s", ""),
                ("get mpull held -o jsonpath={.metadata.finalizers}", ""),
                (r#"patch mpull held --type=json -p [{"op":"remove","path":"/metadata/finalizers"}]"#, ""),
                ("wait mpull/held --for=delete --timeout=5s", ""),
                ("delete mpull,cm -l set=x --dry-run=server", ""),
                ("delete mpull,cm -l set=x --cascade=background", ""),
                ("get mpull", ""),
                ("delete -f -", TWO),
            ],
            &[],
        )
        .await;
    });
}

#[test]
fn events_are_shown() {
    scenario(|| async {
        same(
            &[
                ("apply -f -", PULL),
                ("create -f -", EVENT),
                ("get events", ""),
                ("get events -o wide", ""),
                ("get events.events.k8s.io", ""),
                ("get events --field-selector involvedObject.name=llama,type=Normal -o name", ""),
                ("get events --field-selector reason=Other -o name", ""),
                ("events", ""),
                ("events --for mpull/llama", ""),
                ("events --types=Warning", ""),
                ("describe mpull llama", ""),
            ],
            &[],
        )
        .await;
    });
}

#[test]
fn server_side_apply_says_who_owns_what() {
    scenario(|| async {
        same(
            &[
                ("apply --server-side -f -", PULL),
                ("apply --server-side --field-manager=other -f -", CHANGED),
                ("apply --server-side --field-manager=other --force-conflicts -f -", CHANGED),
                ("diff --server-side --field-manager=other -f -", CHANGED),
                ("get mpull llama -o yaml --show-managed-fields", ""),
                ("apply --server-side --dry-run=server --force-conflicts -f -", PULL),
                ("apply --dry-run=server -f -", CHANGED),
                ("delete mpull -l tier=gpu --wait", ""),
            ],
            &[],
        )
        .await;
    });
}

#[test]
fn kubernetes_own_kinds_work_with_it() {
    scenario(|| async {
        same(
            &[
                ("apply -f -", CONFIG),
                ("get cm settings -o yaml", ""),
                (r#"patch cm settings -p {"data":{"a":null,"c":"3"}}"#, ""),
                ("get cm settings", ""),
                ("describe cm settings", ""),
                ("create secret generic s --from-literal=k=v", ""),
                ("get secrets", ""),
                ("describe secret s", ""),
                ("create service clusterip s --tcp=80:8080 --clusterip=None", ""),
                ("get svc", ""),
                ("delete svc,secret,cm s settings --ignore-not-found", ""),
                ("get events", ""),
                ("create configmap c --from-literal=x=y --dry-run=server -o name", ""),
                ("get cm c", ""),
                ("get crd modelpulls.drover.dev -o name", ""),
            ],
            &[],
        )
        .await;
    });
}

#[test]
fn faults_and_documentation_read_the_same() {
    scenario(|| async {
        same(
            &[
                ("apply -f -", "apiVersion: drover.dev/v1alpha1\nkind: ModelPull\nmetadata: {name: x}\nspec: {modle: a}\n"),
                ("apply -f -", "apiVersion: drover.dev/v1alpha1\nkind: ModelPull\nmetadata: {name: x}\nspec: {model: a, retry: {x: 1}}\n"),
                ("apply --validate=false -f -", "apiVersion: drover.dev/v1alpha1\nkind: ModelPull\nmetadata: {name: x}\nspec: {model: a, foo: 1}\n"),
                ("apply -f -", "apiVersion: drover.dev/v1alpha1\nkind: Nothing\nmetadata: {name: x}\n"),
                ("explain mpull.spec", ""),
                ("explain mpull.spec.retry --recursive", ""),
                ("explain mpull", ""),
                ("explain mpull.spec --output=plaintext-openapiv2", ""),
                ("explain mpull.status.conditions --output=plaintext-openapiv2 --recursive", ""),
                ("explain mpull.nothing", ""),
                ("explain configmap.data", ""),
                ("explain configmap.metadata --output=plaintext-openapiv2", ""),
                ("explain events --api-version=events.k8s.io/v1", ""),
                ("api-resources --categories=drover", ""),
                ("api-resources --api-group=drover.dev -o wide", ""),
                ("apply -f - --validate=warn", "apiVersion: drover.dev/v1alpha1\nkind: ModelPull\nmetadata: {name: x}\nspec: {model: a, foo: 1}\n"),
                ("api-resources --api-group=drover.dev", ""),
                ("get nothing", ""),
            ],
            &[],
        )
        .await;
    });
}

#[test]
fn changes_are_watched() {
    scenario(|| async {
        let sides = [real().await, embedded().await];
        for version in VERSIONS {
            let namespace = namespace(&sides).await;
            let [real, embedded] = sides.each_ref().map(|side| watched(side, version, &namespace));
            let (real, embedded) = tokio::join!(real, embedded);
            assert_eq!(real, embedded, "{version}");
        }
    });
}

/// What `kubectl get -w` prints of an object that is changed and deleted.
async fn watched(side: &Side, version: &str, namespace: &str) -> Vec<String> {
    let place = (side, version, namespace);
    printed(place, "apply -f -", PULL, &[]).await;
    let change = async {
        let patch = r#"patch mpull llama --type=merge -p {"spec":{"model":"other:1"}}"#;
        printed(place, patch, "", &[]).await;
        printed(place, "delete mpull llama", "", &[]).await;
    };
    let arguments = ["get", "mpull", "-w", "--output-watch-events", "-n", namespace];
    let lines = side.kubectl_lines(version, &arguments, 4, change).await;
    let bare =
        |line: &String| line.split_whitespace().filter(|word| !word.ends_with('s')).collect::<Vec<_>>().join(" ");
    lines.iter().map(bare).collect()
}

/// An editor that makes one replacement.
fn editor(scratch: &Scratch, from: &str, to: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let editor = scratch.join(&format!("editor-{}", from.len()));
    std::fs::write(&editor, format!("#!/bin/sh\nsed -i 's/{from}/{to}/' \"$1\"\n")).expect("a script");
    std::fs::set_permissions(Path::new(&editor), std::fs::Permissions::from_mode(0o755)).expect("it can be run");
    editor.to_string_lossy().into_owned()
}

#[test]
fn an_editor_changes_an_object() {
    scenario(|| async {
        let scratch = Scratch::new();
        let model = editor(&scratch, "llama3.2:3b", "llama3.2:1b");
        let commands =
            [("apply -f -", PULL), ("edit mpull llama", ""), ("get mpull llama -o jsonpath={.spec.model}", "")];
        same(&commands, &[("KUBE_EDITOR", &model)]).await;
        let nothing = editor(&scratch, "nowhere", "");
        same(&[("apply -f -", PULL), ("edit mpull llama", "")], &[("KUBE_EDITOR", &nothing)]).await;
    });
}
