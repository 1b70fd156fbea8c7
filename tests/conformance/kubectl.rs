//! kubectl itself on both: what it prints must be the same.

use std::sync::LazyLock;

use regex::Regex;

use crate::{
    requests::namespace,
    sides::{Side, embedded, real, scenario},
    support::Scratch,
};

const PULL: &str = "apiVersion: drover.dev/v1alpha1
kind: ModelPull
metadata:
  name: llama
  labels: {tier: gpu}
spec:
  model: llama3.2:3b
";
const CHANGED: &str = "apiVersion: drover.dev/v1alpha1
kind: ModelPull
metadata:
  name: llama
spec:
  model: llama3.2:1b
  timeout: 10m
";
const CONFIG: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: '1', b: '2'}
";

/// What a command printed, without what differs from run to run.
async fn printed(side: &Side, namespace: &str, line: &str, stdin: &str, env: &[(&str, &str)]) -> String {
    static VARYING: LazyLock<Regex> = LazyLock::new(|| {
        let parts = [
            r"\b\d+m?\d*s\b",
            r#"(?m)^.*(uid|resourceVersion|UID|Resource Version|creationTimestamp|Creation Timestamp|Time|time):.*$"#,
            r"\d{4}-\d\d-\d\dT[0-9:.]+Z",
            r"(?m)^(---|\+\+\+|diff) .*$",
            r"/[^ ]*kubectl-edit-[^ ]*",
            r"(?i)https://127\.0\.0\.1:\d+",
        ];
        Regex::new(&parts.join("|")).expect("a pattern")
    });
    let arguments: Vec<&str> = line.split(' ').chain(["-n", namespace]).collect();
    let (success, text) = side.kubectl(&arguments, stdin, env).await;
    let text = VARYING.replace_all(&text, "#").replace(namespace, "NS");
    // Columns are as wide as the widest age.
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    format!("{} {}", if success { "ok" } else { "failed" }, lines.join("\n"))
}

async fn same(commands: &[(&str, &str)], env: &[(&str, &str)]) {
    let sides = [real().await, embedded().await];
    let namespace = namespace(&sides).await;
    let mut differences = Vec::new();
    for (line, stdin) in commands {
        let real = printed(&sides[0], &namespace, line, stdin, env).await;
        let embedded = printed(&sides[1], &namespace, line, stdin, env).await;
        if real != embedded {
            differences.push(format!("=== kubectl {line}\n--- real\n{real}\n--- embedded\n{embedded}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
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
                ("create -f -", PULL),
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
                ("explain configmap.data", ""),
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
        let namespace = namespace(&sides).await;
        let mut seen = Vec::new();
        for side in &sides {
            printed(side, &namespace, "apply -f -", PULL, &[]).await;
            let change = async {
                let patch = r#"patch mpull llama --type=merge -p {"spec":{"model":"other:1"}}"#;
                printed(side, &namespace, patch, "", &[]).await;
                printed(side, &namespace, "delete mpull llama", "", &[]).await;
            };
            let arguments = ["get", "mpull", "-w", "--output-watch-events", "-n", &namespace];
            let lines = side.kubectl_lines(&arguments, 4, change).await;
            let bare = |line: &String| {
                line.split_whitespace().filter(|word| !word.ends_with('s')).collect::<Vec<_>>().join(" ")
            };
            seen.push(lines.iter().map(bare).collect::<Vec<_>>());
        }
        assert_eq!(seen[0], seen[1]);
    });
}

#[test]
fn an_editor_changes_an_object() {
    scenario(|| async {
        let scratch = Scratch::new();
        let editor = scratch.join("editor");
        std::fs::write(&editor, "#!/bin/sh\nsed -i 's/llama3.2:3b/llama3.2:1b/' \"$1\"\n").expect("a script");
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).expect("it can be run");
        let editor = editor.to_string_lossy().into_owned();
        let commands =
            [("apply -f -", PULL), ("edit mpull llama", ""), ("get mpull llama -o jsonpath={.spec.model}", "")];
        same(&commands, &[("KUBE_EDITOR", &editor)]).await;
    });
}
