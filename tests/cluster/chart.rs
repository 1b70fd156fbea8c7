//! The Helm chart on a real API server: what it makes, and that the program can work with exactly that.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    namespace::SOON,
    support::{
        Scratch, checkout,
        drover::Drover,
        eventually, free_port, http_client,
        kube_api::{KubeApi, Output, Server},
    },
    world::{api, namespace, own_api, run},
};

static CHART: LazyLock<String> = LazyLock::new(|| checkout("charts/drover").display().to_string());

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
---
apiVersion: drover.dev/v1alpha1
kind: ApiKey
metadata: {name: app}
spec: {hash: 'sha256:1111111111111111111111111111111111111111111111111111111111111111'}
";

/// What the chart makes in the release's namespace.
const NAMESPACED: &[&str] = &[
    "deployment/drover-controller",
    "deployment/drover-gateway",
    "deployment/drover-mirror",
    "poddisruptionbudget/drover-gateway",
    "secret/drover-mirror-key",
    "service/drover-controller-health",
    "service/drover-gateway",
    "service/drover-gateway-health",
    "service/drover-gateway-peers",
    "service/drover-mirror",
    "service/drover-mirror-health",
    "serviceaccount/drover-controller",
    "serviceaccount/drover-gateway",
    "serviceaccount/drover-mirror",
];

/// A release called `drover`, in a namespace of its own.
struct Release<'a> {
    api: &'a KubeApi,
    namespace: String,
}

impl<'a> Release<'a> {
    async fn install(api: &'a KubeApi, namespace: String, values: &[&str]) -> Self {
        let release = Self { api, namespace };
        release.helm_ok(&[&["install", "drover", &CHART], values].concat()).await;
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

    /// The key of the mirror, in a file as the kubelet would write it.
    async fn mirror_key(&self, scratch: &Path) -> PathBuf {
        let secret = self.api.get_json("secret", &self.namespace, "drover-mirror-key").await;
        let key = BASE64_STANDARD.decode(secret["data"]["key"].as_str().expect("a key")).expect("base64");
        assert_eq!(key.len(), 48);
        fs::create_dir_all(scratch).expect("a folder");
        let file = scratch.join("mirror-key");
        fs::write(&file, key).expect("a file");
        file
    }

    /// Starts what the Deployment's pod would run, as its ServiceAccount, on ports and in a folder of this machine.
    async fn run(&self, component: &str, scratch: &Path) -> (Drover, u16) {
        let pod = &self.deployment(component).await["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"].as_str().expect("a ServiceAccount");
        let kubeconfig = self.api.kubeconfig_for_service_account(&self.namespace, account).await;
        let (health, listen) = (free_port(), free_port());
        let (data, key) = (scratch.join(component), self.mirror_key(scratch).await);
        let container = &pod["containers"][0];
        assert_eq!(container["command"], json!(["drover"]));
        let arguments = container["args"].as_array().expect("arguments").iter().map(|argument| {
            let argument = argument.as_str().expect("an argument is text");
            match argument.split_once('=').map_or(argument, |(flag, _)| flag) {
                "--health-listen" => format!("--health-listen=127.0.0.1:{health}"),
                "--gateway-listen" => format!("--gateway-listen=127.0.0.1:{listen}"),
                "--mirror-listen" => format!("--mirror-listen=127.0.0.1:{listen}"),
                "--mirror-key-file" => format!("--mirror-key-file={}", key.display()),
                "--mirror-url" => format!("--mirror-url=http://127.0.0.1:{}", free_port()),
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
        for (kind, name) in [
            ("ollamanode", "gone"),
            ("modelpull", "pull"),
            ("modelversion", "bot-1"),
            ("modeldeployment", "bot"),
            ("apikey", "app"),
        ] {
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
    run(async {
        let api = &*api(Server::Real).await;
        let lint = api.helm(&["lint", "--strict", &CHART]).await;
        assert!(lint.status.success(), "{}{}", lint.stdout, lint.stderr);
        let rendered = api.helm(&["template", "drover", &CHART, "--include-crds"]).await;
        assert!(rendered.status.success(), "{}", rendered.stderr);
        for crd in drover::api::crds() {
            let name = format!("name: {}\n", crd.metadata.name.expect("a CRD has a name"));
            assert!(rendered.stdout.contains(&name), "{name} is not among what the chart brings");
        }
    });
}

#[test]
fn a_release_comes_changes_and_goes() {
    run(async {
        let api = &*api(Server::Real).await;
        let several = "gateway.replicas=2,gateway.records.secret=database";
        let release = Release::install(api, namespace(api, "release").await, &["--set", several]).await;
        assert_eq!(release.status().await, "deployed");
        let in_namespace = ["-n", &release.namespace];
        api.kubectl_ok(&[&["get"], NAMESPACED, &in_namespace].concat(), None).await;

        let peers = api.get_json("service", &release.namespace, "drover-gateway-peers").await;
        assert_eq!(peers["spec"]["clusterIP"], "None");
        let url = format!("http://drover-gateway-peers.{}.svc:11435", release.namespace);
        let controller = release.deployment("controller").await;
        let arguments = controller["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        assert!(arguments.contains(&url), "the controller does not ask {url}: {arguments}");

        let more = "gateway.replicas=3,drainTimeoutSeconds=60,gateway.records.maxAge=24h";
        release.helm_ok(&["upgrade", "drover", &CHART, "--reuse-values", "--set", more]).await;
        let gateway = release.deployment("gateway").await;
        let container = &gateway["spec"]["template"]["spec"]["containers"][0];
        assert!(container["args"].to_string().contains("--records-max-age=24h"), "{container}");
        let database = json!({ "secretKeyRef": { "name": "database", "key": "url" } });
        assert_eq!(container["env"], json!([{ "name": "DROVER_RECORDS", "valueFrom": database }]));
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
    run(async {
        // One of the controllers looks after all namespaces of its API server.
        let scratch = Scratch::new();
        let api = &own_api(Server::Real, &scratch.join("kube")).await;
        let (models, ops) = (namespace(api, "models").await, namespace(api, "ops").await);
        let release = Release::install(api, ops, &["--set", &format!("namespace={models}")]).await;
        {
            let (_controller, _) = release.run("controller", &scratch.join("one-namespace")).await;
            release.check_controller(&models).await;
            let (_gateway, port) = release.run("gateway", &scratch.join("one-namespace")).await;
            check_gateway(port).await;
            check_mirror(&release, &scratch.join("one-namespace")).await;
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

/// The mirror lets whoever has the key grant pulls, and nobody else.
async fn check_mirror(release: &Release<'_>, scratch: &Path) {
    let (_mirror, port) = release.run("mirror", scratch).await;
    let url = format!("http://127.0.0.1:{port}/drover/v1/stats");
    assert_eq!(http_client().get(&url).send().await.expect("an answer").status(), 401);
    let key = fs::read_to_string(release.mirror_key(scratch).await).expect("the key");
    let answer = http_client().get(&url).bearer_auth(key).send().await.expect("an answer");
    assert!(answer.json::<Value>().await.expect("JSON")["bytesIn"].is_u64());
}

#[test]
fn the_mirror_of_the_chart_gets_what_the_values_say() {
    run(async {
        let api = &*api(Server::Real).await;
        let values = [
            "mirror.upstreams[0].prefix=team,mirror.upstreams[0].url=https://registry.example/models",
            "mirror.upstreams[1].url=https://registry.example",
            "mirror.authSecret=logins,mirror.ca.configMap=authority,mirror.advertise=http://10.0.0.5:31437",
            "mirror.cacheSize=80GiB,mirror.bandwidth=50MB,mirror.size=90Gi,mirror.storageClass=fast",
            "mirror.service.type=NodePort,networkPolicy.enabled=true",
            "mirror.pushKeys[0]=ssh-ed25519 AAAA someone,mirror.offer={team/a:1,team/b:1},mirror.open=true",
        ];
        let set: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
        let release = Release::install(api, namespace(api, "cached").await, &set).await;
        let mirror = release.deployment("mirror").await["spec"].clone();
        let pod = &mirror["template"]["spec"];
        let arguments = pod["containers"][0]["args"].to_string();
        for argument in [
            "--upstream=team=https://registry.example/models",
            "--upstream==https://registry.example\"",
            "--upstream-auth-file=/etc/drover/auth/config.json",
            "--upstream-ca-file=/etc/drover/ca/ca.crt",
            "--mirror-cache-size=80GiB",
            "--mirror-bandwidth=50MB",
            "--mirror-push-keys-file=/etc/drover/push-keys/keys",
            "--mirror-offer=team/a:1,team/b:1",
            "--mirror-open=true",
        ] {
            assert!(arguments.contains(argument), "{argument} is not in {arguments}");
        }
        let volumes: Vec<&str> =
            pod["volumes"].as_array().expect("volumes").iter().filter_map(|volume| volume["name"].as_str()).collect();
        assert_eq!(volumes, ["data", "mirror-key", "push-keys", "auth", "ca"]);
        let keys = api.get_json("configmap", &release.namespace, "drover-mirror-push-keys").await;
        assert_eq!(keys["data"]["keys"], "ssh-ed25519 AAAA someone\n");
        let claim = &api.get_json("pvc", &release.namespace, "drover-mirror").await["spec"];
        assert_eq!(
            (&claim["storageClassName"], &claim["resources"]["requests"]["storage"]),
            (&json!("fast"), &json!("90Gi"))
        );
        let controller =
            release.deployment("controller").await["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        let url = format!("--mirror-url=http://drover-mirror.{}.svc:11437", release.namespace);
        assert!(
            controller.contains(&url) && controller.contains("--mirror-advertise=http://10.0.0.5:31437"),
            "{controller}"
        );
        api.kubectl_ok(&["get", "networkpolicy", "drover-mirror", "drover-gateway", "-n", &release.namespace], None)
            .await;

        let key = async || api.get_json("secret", &release.namespace, "drover-mirror-key").await["data"]["key"].clone();
        let before = key().await;
        release.helm_ok(&["upgrade", "drover", &CHART, "--reuse-values"]).await;
        assert_eq!(key().await, before, "an upgrade keeps the key");
        release
            .helm_ok(&["upgrade", "drover", &CHART, "--reuse-values", "--set", "mirror.key.existingSecret=ours"])
            .await;
        let pod = &release.deployment("mirror").await["spec"]["template"]["spec"];
        assert_eq!(pod["volumes"][1]["secret"]["secretName"], "ours");

        release.helm_ok(&["upgrade", "drover", &CHART, "--set", "mirror.enabled=false"]).await;
        let left =
            ["get", "deployment,service,secret,serviceaccount,networkpolicy", "-n", &release.namespace, "-o", "name"];
        let left = api.kubectl_ok(&left, None).await;
        assert!(!left.contains("drover-mirror"), "{left}");
        let pod = release.deployment("controller").await["spec"]["template"]["spec"].to_string();
        assert!(!pod.contains("mirror"), "{pod}");
        release.helm_ok(&["uninstall", "drover"]).await;
        // What people pushed is nowhere else.
        api.kubectl_ok(&["get", "pvc", "drover-mirror", "-n", &release.namespace], None).await;
    });
}

#[test]
fn a_service_monitor_finds_the_health_services() {
    run(async {
        let api = &*api(Server::Real).await;
        let rendered = api.helm(&["template", "drover", &CHART, "--set", "serviceMonitor.enabled=true"]).await.stdout;
        let documents =
            serde_yaml::Deserializer::from_str(&rendered).map(|document| Value::deserialize(document).expect("YAML"));
        let documents: Vec<Value> = documents.collect();
        let monitor = documents.iter().find(|document| document["kind"] == "ServiceMonitor").expect("a ServiceMonitor");
        let endpoint = &monitor["spec"]["endpoints"][0];
        assert_eq!((&endpoint["port"], &endpoint["path"]), (&json!("health"), &json!("/metrics")));
        let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().expect("labels");
        let found = documents.iter().filter(|document| {
            let labels = &document["metadata"]["labels"];
            let ports = document["spec"]["ports"].as_array().cloned().unwrap_or_default();
            document["kind"] == "Service"
                && wanted.iter().all(|(label, value)| labels[label] == *value)
                && ports.iter().any(|port| port["name"] == "health")
        });
        assert_eq!(found.count(), 3, "controller, gateway and mirror");
    });
}

#[test]
fn controller_and_gateway_trust_the_authority_of_the_nodes() {
    run(async {
        let api = &*api(Server::Real).await;
        for (set, source) in [
            (
                "node.ca.secret=authority",
                json!({ "secretName": "authority", "items": [{ "key": "ca.crt", "path": "ca.crt" }] }),
            ),
            (
                "node.ca.configMap=authority,node.ca.key=root.pem",
                json!({ "name": "authority", "items": [{ "key": "root.pem", "path": "ca.crt" }] }),
            ),
        ] {
            let rendered = api.helm(&["template", "drover", &CHART, "--set", set]).await.stdout;
            let documents = serde_yaml::Deserializer::from_str(&rendered)
                .map(|document| Value::deserialize(document).expect("YAML"));
            let pods: Vec<Value> = documents
                .filter(|object| object["kind"] == "Deployment")
                .map(|object| object["spec"]["template"]["spec"].clone())
                .filter(|pod| pod["containers"][0]["args"].to_string().contains("--node-ca-file=/etc/drover/ca/ca.crt"))
                .collect();
            let names: Vec<_> = pods.iter().map(|pod| &pod["containers"][0]["name"]).collect();
            assert_eq!(names, ["controller", "gateway"]);
            for pod in &pods {
                let of_ca =
                    |list: &Value| list.as_array().expect("a list").iter().find(|entry| entry["name"] == "ca").cloned();
                let (volume, mount) =
                    (of_ca(&pod["volumes"]).expect("a volume"), of_ca(&pod["containers"][0]["volumeMounts"]));
                assert!(volume["secret"] == source || volume["configMap"] == source, "{volume}");
                assert_eq!(mount.expect("a mount")["mountPath"], "/etc/drover/ca");
            }
        }
    });
}

#[test]
fn no_right_is_wider_than_its_use() {
    run(async {
        let api = &*api(Server::Real).await;
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
            // Snapshots of the registry.
            (true, &["get", "configmaps", "-n", &models]),
            (true, &["create", "configmaps", "-n", &models]),
            (true, &["update", "configmaps", "-n", &models]),
            (false, &["list", "configmaps", "-n", &models]),
            (false, &["delete", "configmaps", "-n", &models]),
            (false, &["get", "configmaps", "-n", &other]),
            // For the finalizer.
            (true, &["patch", "modelpulls.drover.dev", "-n", &models]),
            (false, &["update", "modelpulls.drover.dev", "-n", &models]),
            (false, &["patch", "modeldeployments.drover.dev", "-n", &models]),
            (true, &["patch", "apikeys.drover.dev", "--subresource=status", "-n", &models]),
            (false, &["patch", "apikeys.drover.dev", "-n", &models]),
            (false, &["create", "apikeys.drover.dev", "-n", &models]),
            (true, &["patch", "workers.drover.dev", "--subresource=status", "-n", &models]),
            (true, &["watch", "routingprofiles.drover.dev", "-n", &models]),
            (false, &["patch", "workers.drover.dev", "-n", &models]),
            (false, &["create", "modelpulls.drover.dev", "-n", &models]),
            (false, &["delete", "modelversions.drover.dev", "-n", &models]),
            (false, &["list", "ollamanodes.drover.dev", "-n", &other]),
            (false, &["patch", "modelpulls.drover.dev", "--subresource=status", "-n", &other]),
        ];
        let gateway: &[(bool, &[&str])] = &[
            (true, &["watch", "ollamanodes.drover.dev", "-n", &models]),
            // How it notices that the API is away.
            (true, &["get", "/version"]),
            // For /health/models.
            (true, &["watch", "modelpulls.drover.dev", "-n", &models]),
            (false, &["patch", "modelpulls.drover.dev", "-n", &models]),
            // Hashes of callers' keys.
            (true, &["watch", "apikeys.drover.dev", "-n", &models]),
            (false, &["create", "apikeys.drover.dev", "-n", &models]),
            (false, &["patch", "apikeys.drover.dev", "--subresource=status", "-n", &models]),
            (true, &["watch", "fallbackchains.drover.dev", "-n", &models]),
            (true, &["watch", "modelcatalogs.drover.dev", "-n", &models]),
            (false, &["patch", "workers.drover.dev", "-n", &models]),
            // Only with gateway.modelOperations.
            (false, &["create", "modelpulls.drover.dev", "-n", &models]),
            (false, &["delete", "modelpulls.drover.dev", "-n", &models]),
            (false, &["list", "ollamanodes.drover.dev", "-n", &other]),
            (false, &["get", "secrets", "-n", &models]),
            (false, &["create", "events.events.k8s.io", "-n", &models]),
            (false, &["patch", "ollamanodes.drover.dev", "-n", &models]),
            (false, &["patch", "ollamanodes.drover.dev", "--subresource=status", "-n", &models]),
            (false, &["patch", "modelversions.drover.dev", "-n", &models]),
            (false, &["patch", "modeldeployments.drover.dev", "--subresource=status", "-n", &models]),
        ];
        for (component, questions) in [("controller", controller), ("gateway", gateway)] {
            check_rights(&release, component, questions).await;
        }
        release
            .helm_ok(&["upgrade", "drover", &CHART, "--reuse-values", "--set", "gateway.modelOperations=true"])
            .await;
        let operating: &[(bool, &[&str])] = &[
            (true, &["create", "modelpulls.drover.dev", "-n", &models]),
            (true, &["delete", "modelpulls.drover.dev", "-n", &models]),
            (true, &["patch", "modelpulls.drover.dev", "-n", &models]),
            (false, &["patch", "modelpulls.drover.dev", "--subresource=status", "-n", &models]),
            (false, &["delete", "modelversions.drover.dev", "-n", &models]),
            (false, &["create", "modelpulls.drover.dev", "-n", &other]),
        ];
        check_rights(&release, "gateway", operating).await;
        release.helm_ok(&["uninstall", "drover"]).await;
    });
}

/// Whether each of these may be done, or not.
async fn check_rights(release: &Release<'_>, component: &str, questions: &[(bool, &[&str])]) {
    for (expected, question) in questions {
        let may = release.may(component, question).await;
        assert_eq!(may, *expected, "{component}: {}", question.join(" "));
    }
}

#[test]
fn values_that_mean_nothing_are_refused_by_name() {
    run(async {
        let api = &*api(Server::Real).await;
        for (value, names) in [
            ("gatway.replicas=3", "gatway"),
            ("gateway.replica=3", "replica"),
            ("gateway.replicas=many", "/gateway/replicas"),
            ("gateway.replicas=2", "gateway.records.secret"),
            ("gateway.records.maxSize=lots", "/gateway/records/maxSize"),
            ("gateway.records.whenDown=wait", "/gateway/records/whenDown"),
            ("log.format=xml", "/log/format"),
            ("gateway.requireKey=strangers", "/gateway/requireKey"),
            ("controller.probeInterval=5", "/controller/probeInterval"),
            ("mirror.cacheSize=lots", "/mirror/cacheSize"),
            ("mirror.advertise=mirror:11437", "/mirror/advertise"),
            ("mirror.upstreams[0].prefix=team", "url"),
            ("mirror.ca.secret=a,mirror.ca.configMap=b", "mirror.ca"),
            ("node.ca.secret=a,node.ca.configMap=b", "node.ca"),
            ("gateway.serviceAccount.create=false", "gateway.serviceAccount.name"),
            ("namespace=a,gateway.namespace=b", "gateway.namespace"),
        ] {
            let answer = api.helm(&["template", "drover", &CHART, "--set", value]).await;
            assert!(!answer.status.success(), "{value} was accepted");
            assert!(answer.stderr.contains(names), "{value}: {} does not name {names}", answer.stderr);
        }
    });
}
