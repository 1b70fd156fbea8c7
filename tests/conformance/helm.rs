//! helm on both: releases of a chart with objects of Drover's kinds go the same way.

use std::sync::LazyLock;

use regex::Regex;

use crate::{
    requests::namespace,
    sides::{Side, embedded, real, scenario},
    support::checkout,
};

static CHART: LazyLock<String> = LazyLock::new(|| checkout("tests/conformance/clients/chart").display().to_string());
static OWN_CHART: LazyLock<String> = LazyLock::new(|| checkout("charts/drover").display().to_string());

/// What a command printed, without what differs from run to run.
async fn printed(side: &Side, namespace: &str, line: &str) -> String {
    static VARYING: LazyLock<Regex> = LazyLock::new(|| {
        let parts = [
            r"(?m)^LAST DEPLOYED:.*$",
            r"\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \d{4}",
            r"\d{4}-\d\d-\d\d[ T][0-9:.]+( \S+ UTC|Z)",
            r#"(?m)^\s*(uid|resourceVersion|creationTimestamp|time):.*$"#,
            r"\b\d+[dhm]?\d*s\b",
        ];
        Regex::new(&parts.join("|")).expect("a pattern")
    });
    let (tool, line) = line.split_once(' ').expect("a tool and what it shall do");
    let (first, rest) = line.split_once('|').map_or((line, None), |(first, rest)| (first.trim(), Some(rest.trim())));
    let (mut success, mut text) = run(side, tool, namespace, first, "").await;
    if let Some((tool, line)) = rest.and_then(|rest| rest.split_once(' ')) {
        (success, text) = run(side, tool, namespace, line, &text).await;
    }
    let text = VARYING.replace_all(&text, "#").replace(namespace, "NS");
    // Its log says how long it waited.
    let is_log = |line: &&str| ["level=", "time=", "I1", "I0"].iter().any(|start| line.starts_with(start));
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| !is_log(line))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    if first.starts_with("status") {
        // The kinds are in no certain order.
        lines.sort();
    }
    format!("{} {}", if success { "ok" } else { "failed" }, lines.join("\n"))
}

async fn run(side: &Side, tool: &str, namespace: &str, line: &str, stdin: &str) -> (bool, String) {
    let line = line.replace("CHART", &CHART);
    let arguments: Vec<&str> = line.split(' ').chain(["-n", namespace]).collect();
    side.run(tool, &arguments, stdin, &[]).await
}

async fn same(lines: &[&str]) {
    let sides = [real().await, embedded().await];
    let namespace = namespace(&sides).await;
    let mut differences = Vec::new();
    for line in lines {
        let [real, embedded] = sides.each_ref().map(|side| printed(side, &namespace, line));
        let (real, embedded) = tokio::join!(real, embedded);
        if real != embedded {
            differences.push(format!("=== {line}\n--- real\n{real}\n--- embedded\n{embedded}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn a_release_is_installed_upgraded_rolled_back_and_uninstalled() {
    scenario(|| async {
        same(&[
            "helm install fleet CHART --dry-run=server",
            "helm install fleet CHART",
            "helm install fleet CHART",
            "helm list",
            "helm status fleet",
            "kubectl get mpull,onode,cm,secret -o name",
            "kubectl get mpull fleet -o yaml --show-managed-fields",
            "helm upgrade fleet CHART --set model=llama3.2:1b,extra=true --dry-run=server",
            "helm upgrade fleet CHART --set model=llama3.2:1b,extra=true",
            "kubectl get mpull fleet -o jsonpath={.spec.model}",
            "kubectl get cm fleet-extra fleet-hook -o yaml",
            "helm upgrade fleet CHART --set node=nonsense",
            "helm upgrade fleet CHART --set node=nonsense --rollback-on-failure --timeout=5s",
            "helm history fleet",
            "helm rollback fleet 1",
            "kubectl get mpull fleet -o jsonpath={.spec.model}",
            "kubectl get cm fleet-extra --ignore-not-found",
            "helm get manifest fleet",
            "helm get values fleet --revision 2",
            "helm upgrade --install fleet CHART --set model=other:1 --force-conflicts",
            "helm history fleet",
            "helm uninstall fleet --wait --timeout=10s",
            "kubectl get mpull,onode,cm,secret -o name",
            "helm list --all",
            "helm uninstall fleet",
        ])
        .await;
    });
}

#[test]
fn a_release_takes_objects_over_and_waits_for_them() {
    scenario(|| async {
        same(&[
            "helm template other CHART | kubectl apply -f -",
            "helm install other CHART",
            "helm install other CHART --take-ownership --force-conflicts",
            "kubectl get mpull other -o yaml",
            r#"kubectl patch mpull other --subresource=status --type=merge -p {"status":{"observedGeneration":1,"conditions":[{"type":"Ready","status":"True","reason":"R","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#,
            "helm upgrade other CHART --wait --timeout=10s",
            "helm uninstall other --keep-history",
            "helm history other",
        ])
        .await;
    });
}

/// The chart of Drover itself is for clusters: the embedded API has no Deployments, and helm says so.
#[test]
fn a_chart_with_other_kinds_is_refused_with_their_names() {
    scenario(|| async {
        let side = embedded().await;
        let namespace = namespace(std::slice::from_ref(&side)).await;
        let arguments = ["install", "drover", &OWN_CHART, "--skip-crds", "-n", &namespace];
        let (success, text) = side.run("helm", &arguments, "", &[]).await;
        assert!(!success, "{text}");
        assert!(text.contains("no matches for kind \"Deployment\" in version \"apps/v1\""), "{text}");
        let (_, left) =
            side.run("kubectl", &["get", "mpull,cm,secret,svc", "-o", "name", "-n", &namespace], "", &[]).await;
        assert_eq!(left.trim(), "", "nothing of it is there");
    });
}
