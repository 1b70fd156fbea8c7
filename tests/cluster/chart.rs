//! The Helm chart on a real API server: what it makes, and that the program can work with exactly that.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    fleet::SOON,
    support::{
        Scratch,
        drover::Drover,
        eventually, free_port, http_client,
        kube_api::{KubeApi, Output},
    },
    world::{api, namespace, scenario},
};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/drover");

/// Nothing listens at the node's address. The finalizer is the controller's own, so that it has one to remove.
const OBJECTS: &str = "
apiVersion: drover.dev/v1alpha1
kind: OllamaNode
metadata: {name: gone}
spec: {url: 'http://127.0.0.1:1'}
---
apiVersion: drover.dev/v1alpha1
kind: ModelPull
metadata: {name: pull}
spec: {model: 'a:1'}
---
apiVersion: drover.dev/v1alpha1
kind: ModelVersion
metadata: {name: bot-1, finalizers: [drover.dev/aliases]}
spec: {model: bot, version: v1.0.0, source: {ollama: {tag: 'a:1'}}}
---
apiVersion: drover.dev/v1alpha1
kind: ModelDeployment
metadata: {name: bot}
spec: {model: bot, version: v1.0.0}
";

/// What the chart makes in the release's namespace.
const NAMESPACED: &[&str] = &[
    "deployment/drover-controller",
    "deployment/drover-gateway",
    "poddisruptionbudget/drover-gateway",
    "service/drover-gateway",
    "service/drover-gateway-peers",
    "serviceaccount/drover-controller",
    "serviceaccount/drover-gateway",
];

/// A release called `drover`, in a namespace of its own.
struct Release {
    api: &'static KubeApi,
    namespace: String,
}

impl Release {
    async fn install(api: &'static KubeApi, namespace: String, values: &[&str]) -> Self {
        let release = Self { api, namespace };
        release.helm_ok(&[&["install", "drover", CHART], values].concat()).await;
        release
    }

    async fn helm(&self, arguments: &[&str]) -> Output {
        self.api.helm(&[arguments, &["--namespace", &self.namespace]].concat()).await
    }

    async fn helm_ok(&self, arguments: &[&str]) -> String {
        let output = self.helm(arguments).await;
        assert!(output.status.success(), "helm {}: {}", arguments.join(" "), output.stderr);
        output.stdout
    }

    /// What `helm status` calls the state of the release.
    async fn status(&self) -> Value {
        let status = self.helm_ok(&["status", "drover", "-o", "json"]).await;
        serde_json::from_str::<Value>(&status).expect("helm prints JSON")["info"]["status"].clone()
    }

    async fn deployment(&self, component: &str) -> Value {
        self.api.get_json("deployment", &self.namespace, &format!("drover-{component}")).await
    }

    /// Starts what the Deployment's pod would run, as its ServiceAccount, on ports and in a folder of this machine.
    async fn run(&self, component: &str, scratch: &Path) -> (Drover, u16) {
        let pod = &self.deployment(component).await["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"].as_str().expect("a ServiceAccount");
        let kubeconfig = self.api.kubeconfig_for_service_account(&self.namespace, account).await;
        let (health, listen) = (free_port(), free_port());
        let data = scratch.join(component);
        let container = &pod["containers"][0];
        assert_eq!(container["command"], json!(["drover"]));
        let arguments = container["args"].as_array().expect("arguments").iter().map(|argument| {
            let argument = argument.as_str().expect("an argument is text");
            match argument.split_once('=').map_or(argument, |(flag, _)| flag) {
                "--health-listen" => format!("--health-listen=127.0.0.1:{health}"),
                "--gateway-listen" => format!("--gateway-listen=127.0.0.1:{listen}"),
                "--data-dir" => format!("--data-dir={}", data.display()),
                _ => argument.to_owned(),
            }
        });
        let drover = Drover::with_arguments(component, arguments.collect(), health, &kubeconfig, scratch).await;
        (drover, listen)
    }

    /// Whether a component's ServiceAccount may do this.
    async fn may(&self, component: &str, question: &[&str]) -> bool {
        let account = format!("--as=system:serviceaccount:{}:drover-{component}", self.namespace);
        let groups = ["--as-group=system:authenticated", "--as-group=system:serviceaccounts", &account];
        let answer = self.api.kubectl(&[&["auth", "can-i"], question, &groups].concat(), None).await;
        match answer.stdout.trim() {
            "yes" => true,
            "no" => false,
            _ => panic!("kubectl auth can-i {}: {}", question.join(" "), answer.stderr),
        }
    }

    /// The controller takes up every kind in `namespace`, and lets go of an object that is deleted.
    async fn check_controller(&self, namespace: &str) {
        let api = self.api;
        api.kubectl_ok(&["apply", "-n", namespace, "-f", "-"], Some(OBJECTS)).await;
        for (kind, name) in
            [("ollamanode", "gone"), ("modelpull", "pull"), ("modelversion", "bot-1"), ("modeldeployment", "bot")]
        {
            eventually(&format!("{kind} {name} has a Ready condition"), SOON, async || {
                let object = api.get_json(kind, namespace, name).await;
                let ready = condition(&object, "Ready").cloned();
                ready.ok_or_else(|| object["status"].to_string())
            })
            .await;
        }
        let node = api.get_json("ollamanode", namespace, "gone").await;
        let ready = condition(&node, "Ready").expect("found before");
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("ConnectionRefused")));
        api.kubectl_ok(&["delete", "modelversion", "bot-1", "-n", namespace, "--timeout=60s"], None).await;
    }
}

fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)
}

#[test]
fn the_chart_is_well_formed_and_brings_the_crds() {
    scenario(|| async {
        let api = api().await;
        let lint = api.helm(&["lint", "--strict", CHART]).await;
        assert!(lint.status.success(), "{}{}", lint.stdout, lint.stderr);
        let rendered = api.helm(&["template", "drover", CHART, "--include-crds"]).await;
        assert!(rendered.status.success(), "{}", rendered.stderr);
        for crd in drover::api::crds() {
            let name = format!("name: {}\n", crd.metadata.name.expect("a CRD has a name"));
            assert!(rendered.stdout.contains(&name), "{name} is not among what the chart brings");
        }
    });
}

#[test]
fn a_release_comes_changes_and_goes() {
    scenario(|| async {
        let api = api().await;
        let release = Release::install(api, namespace(api, "release").await, &[]).await;
        assert_eq!(release.status().await, "deployed");
        let in_namespace = ["-n", &release.namespace];
        api.kubectl_ok(&[&["get"], NAMESPACED, &in_namespace].concat(), None).await;

        let peers = api.get_json("service", &release.namespace, "drover-gateway-peers").await;
        assert_eq!(peers["spec"]["clusterIP"], "None");
        let url = format!("http://drover-gateway-peers.{}.svc:11435", release.namespace);
        let controller = release.deployment("controller").await;
        let arguments = controller["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        assert!(arguments.contains(&url), "the controller does not ask {url}: {arguments}");

        release.helm_ok(&["upgrade", "drover", CHART, "--set", "gateway.replicas=3,drainTimeoutSeconds=60"]).await;
        let gateway = release.deployment("gateway").await;
        assert_eq!(gateway["spec"]["replicas"], 3);
        // Draining, taking requests until nobody sends any more, and a margin.
        assert_eq!(gateway["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 60 + 5 + 5);

        release.helm_ok(&["uninstall", "drover"]).await;
        let found = [&["get", "--ignore-not-found", "-o", "name"], NAMESPACED, &in_namespace].concat();
        assert_eq!(api.kubectl_ok(&found, None).await, "");
        let cluster_wide = api.kubectl_ok(&["get", "clusterrole,clusterrolebinding", "-o", "name"], None).await;
        assert!(!cluster_wide.contains(&format!("{}-drover", release.namespace)), "left: {cluster_wide}");
        for crd in drover::api::crds() {
            api.kubectl_ok(&["get", "crd", &crd.metadata.name.expect("a CRD has a name")], None).await;
        }
    });
}

/// One after the other: the controller of the second release looks after the first one's namespace, too.
#[test]
fn both_programs_work_with_the_rights_and_flags_of_the_chart() {
    scenario(|| async {
        let api = api().await;
        let scratch = Scratch::new();
        let (models, ops) = (namespace(api, "models").await, namespace(api, "ops").await);
        let release = Release::install(api, ops, &["--set", &format!("namespace={models}")]).await;
        {
            let (_controller, _) = release.run("controller", &scratch.join("one-namespace")).await;
            release.check_controller(&models).await;
            let (_gateway, port) = release.run("gateway", &scratch.join("one-namespace")).await;
            check_gateway(port).await;
        }
        release.helm_ok(&["uninstall", "drover"]).await;

        let (elsewhere, own) = (namespace(api, "elsewhere").await, namespace(api, "own").await);
        let release = Release::install(api, own, &["--set", "log.format=json"]).await;
        let (_controller, _) = release.run("controller", &scratch.join("all-namespaces")).await;
        release.check_controller(&elsewhere).await;
        let (_gateway, port) = release.run("gateway", &scratch.join("all-namespaces")).await;
        check_gateway(port).await;
        release.helm_ok(&["uninstall", "drover"]).await;
    });
}

/// A gateway that is ready has read every object that it needs.
async fn check_gateway(port: u16) {
    let answer = http_client().get(format!("http://127.0.0.1:{port}/api/tags")).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status).expect("the gateway answers");
    assert!(answer.json::<Value>().await.expect("JSON")["models"].is_array());
}

#[test]
fn no_right_is_wider_than_its_use() {
    scenario(|| async {
        let api = api().await;
        let (models, ops, other) =
            (namespace(api, "rights").await, namespace(api, "ops").await, namespace(api, "other").await);
        let release = Release::install(api, ops, &["--set", &format!("namespace={models}")]).await;
        let controller: &[(bool, &[&str])] = &[
            (true, &["patch", "modelpulls.drover.dev", "--subresource=status", "-n", &models]),
            (true, &["create", "events.events.k8s.io", "-n", &models]),
            (true, &["patch", "events.events.k8s.io", "-n", &models]),
            (true, &["get", "namespaces/kube-system"]),
            (false, &["get", "namespaces/default"]),
            (false, &["list", "namespaces"]),
            // Logins for `spec.pullSecret`, by their names only.
            (true, &["get", "secrets", "-n", &models]),
            (false, &["list", "secrets", "-n", &models]),
            (false, &["watch", "secrets", "-n", &models]),
            (false, &["get", "secrets", "-n", &other]),
            // For the finalizer.
            (true, &["patch", "modelpulls.drover.dev", "-n", &models]),
            (false, &["update", "modelpulls.drover.dev", "-n", &models]),
            (false, &["patch", "modeldeployments.drover.dev", "-n", &models]),
            (false, &["create", "modelpulls.drover.dev", "-n", &models]),
            (false, &["delete", "modelversions.drover.dev", "-n", &models]),
            (false, &["list", "ollamanodes.drover.dev", "-n", &other]),
            (false, &["patch", "modelpulls.drover.dev", "--subresource=status", "-n", &other]),
        ];
        let gateway: &[(bool, &[&str])] = &[
            (true, &["watch", "ollamanodes.drover.dev", "-n", &models]),
            // How it notices that the API is away.
            (true, &["get", "/version"]),
            (false, &["list", "modelpulls.drover.dev", "-n", &models]),
            (false, &["list", "ollamanodes.drover.dev", "-n", &other]),
            (false, &["get", "secrets", "-n", &models]),
            (false, &["create", "events.events.k8s.io", "-n", &models]),
            (false, &["patch", "ollamanodes.drover.dev", "-n", &models]),
            (false, &["patch", "ollamanodes.drover.dev", "--subresource=status", "-n", &models]),
            (false, &["patch", "modelversions.drover.dev", "-n", &models]),
            (false, &["patch", "modeldeployments.drover.dev", "--subresource=status", "-n", &models]),
        ];
        for (component, questions) in [("controller", controller), ("gateway", gateway)] {
            for (expected, question) in questions {
                let may = release.may(component, question).await;
                assert_eq!(may, *expected, "{component}: {}", question.join(" "));
            }
        }
        release.helm_ok(&["uninstall", "drover"]).await;
    });
}

#[test]
fn values_that_mean_nothing_are_refused_by_name() {
    scenario(|| async {
        let api = api().await;
        for (value, names) in [
            ("gatway.replicas=3", "gatway"),
            ("gateway.replica=3", "replica"),
            ("gateway.replicas=many", "/gateway/replicas"),
            ("log.format=xml", "/log/format"),
            ("controller.probeInterval=5", "/controller/probeInterval"),
            ("gateway.serviceAccount.create=false", "gateway.serviceAccount.name"),
            ("namespace=a,gateway.namespace=b", "gateway.namespace"),
        ] {
            let answer = api.helm(&["template", "drover", CHART, "--set", value]).await;
            assert!(!answer.status.success(), "{value} was accepted");
            assert!(answer.stderr.contains(names), "{value}: {} does not name {names}", answer.stderr);
        }
    });
}
