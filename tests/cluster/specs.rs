//! What the API server says to good and bad manifests.

use crate::{
    support::{checkout, kube_api::Server},
    world::{api, namespace, on_both_apis},
};

/// A manifest with one thing wrong, and what the refusal must name.
struct Bad {
    what: &'static str,
    manifest: &'static str,
    names: &'static str,
}

const BAD: &[Bad] = &[
    Bad {
        what: "credentials in a URL",
        manifest: "kind: OllamaNode\nspec: {url: 'http://me:secret@host:1'}",
        names: "spec.url",
    },
    Bad { what: "another scheme", manifest: "kind: OllamaNode\nspec: {url: 'ftp://host'}", names: "spec.url" },
    Bad { what: "no URL", manifest: "kind: OllamaNode\nspec: {}", names: "spec.url" },
    Bad {
        what: "a negative keep-alive",
        manifest: "kind: OllamaNode\nspec: {url: 'http://host:1', keepAlive: '-5m'}",
        names: "spec.keepAlive",
    },
    Bad {
        what: "a negative weight",
        manifest: "kind: OllamaNode\nspec: {url: 'http://host:1', weight: -1}",
        names: "spec.weight",
    },
    Bad {
        what: "no requests at once",
        manifest: "kind: OllamaNode\nspec: {url: 'http://host:1', maxConcurrentRequests: 0}",
        names: "spec.maxConcurrentRequests",
    },
    Bad {
        what: "a context above the largest one",
        manifest: "kind: OllamaNode\nspec: {url: 'http://host:1', contextLength: 9000, maxContextLength: 8000}",
        names: "contextLength",
    },
    Bad {
        what: "an unknown field",
        manifest: "kind: OllamaNode\nspec: {url: 'http://host:1', wieght: 5}",
        names: "spec.wieght",
    },
    Bad { what: "a bad model name", manifest: "kind: ModelPull\nspec: {model: 'a b'}", names: "spec.model" },
    Bad { what: "a URL as model", manifest: "kind: ModelPull\nspec: {model: 'http://x/y:1'}", names: "spec.model" },
    Bad {
        what: "a negative timeout",
        manifest: "kind: ModelPull\nspec: {model: 'a:1', timeout: '-5m'}",
        names: "spec.timeout",
    },
    Bad {
        what: "a number as timeout",
        manifest: "kind: ModelPull\nspec: {model: 'a:1', timeout: 300}",
        names: "spec.timeout",
    },
    Bad {
        what: "a malformed digest",
        manifest: "kind: ModelPull\nspec: {model: 'a:1', digest: 'sha256:abc'}",
        names: "spec.digest",
    },
    Bad {
        what: "an unknown update policy",
        manifest: "kind: ModelPull\nspec: {model: 'a:1', updatePolicy: Sometimes}",
        names: "spec.updatePolicy",
    },
    Bad {
        what: "looking up a tag all the time",
        manifest: "kind: ModelPull\nspec: {model: 'a:1', updatePolicy: Always, checkInterval: 9s}",
        names: "spec.checkInterval",
    },
    Bad {
        what: "a priority without measure",
        manifest: "kind: ModelPull\nspec: {model: 'a:1', priority: 1001}",
        names: "spec.priority",
    },
    Bad {
        what: "no node at a time",
        manifest: "kind: ModelPull\nspec: {model: 'a:1', parallelism: 0}",
        names: "spec.parallelism",
    },
    Bad {
        what: "an unknown deletion policy",
        manifest: "kind: ModelPull\nspec: {model: 'a:1', deletionPolicy: Orphan}",
        names: "spec.deletionPolicy",
    },
    Bad {
        what: "a secret without a name",
        manifest: "kind: ModelPull\nspec: {model: 'a:1', pullSecret: {}}",
        names: "spec.pullSecret.name",
    },
    Bad {
        what: "a version without v",
        manifest: "kind: ModelVersion\nspec: {model: bot, version: '1.0.0', source: {ollama: {tag: 'a:1'}}}",
        names: "spec.version",
    },
    Bad {
        what: "a version of two parts",
        manifest: "kind: ModelVersion\nspec: {model: bot, version: v1.0, source: {ollama: {tag: 'a:1'}}}",
        names: "spec.version",
    },
    Bad {
        what: "a model with capitals",
        manifest: "kind: ModelVersion\nspec: {model: Bot, version: v1.0.0, source: {ollama: {tag: 'a:1'}}}",
        names: "spec.model",
    },
    Bad {
        what: "a version without v, with words that help",
        manifest: "kind: ModelVersion\nspec: {model: bot, version: '1.0.0', source: {ollama: {tag: 'a:1'}}}",
        names: "a version must look like v1.2.3 or v1.2.3-suffix",
    },
    Bad {
        what: "a leading zero",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.02.0}",
        names: "a version must look like v1.2.3 or v1.2.3-suffix",
    },
    Bad {
        what: "a parent that is no version",
        manifest: "kind: ModelVersion\nspec: {model: bot, version: v1.0.0, parent: latest, source: {ollama: {tag: 'a:1'}}}",
        names: "a version must look like v1.2.3 or v1.2.3-suffix",
    },
    Bad {
        what: "a model with capitals, with words that help",
        manifest: "kind: ModelVersion\nspec: {model: Bot, version: v1.0.0, source: {ollama: {tag: 'a:1'}}}",
        names: "a model must look like support-bot",
    },
    Bad {
        what: "a model that ends with a dash",
        manifest: "kind: ModelDeployment\nspec: {model: bot-, version: v1.0.0}",
        names: "a model must look like support-bot",
    },
    Bad {
        what: "a tag with a blank",
        manifest: "kind: ModelVersion\nspec: {model: bot, version: v1.0.0, source: {ollama: {tag: 'a b'}}}",
        names: "a model must look like llama3.2:3b",
    },
    Bad {
        what: "a pull of a URL, with words that help",
        manifest: "kind: ModelPull\nspec: {model: 'http://x/y:1'}",
        names: "a model must look like llama3.2:3b",
    },
    Bad {
        what: "a malformed digest of a version",
        manifest: "kind: ModelVersion\nspec: {model: bot, version: v1.0.0, source: {ollama: {tag: 'a:1', digest: 'md5:1'}}}",
        names: "spec.source.ollama.digest",
    },
    Bad {
        what: "its own parent",
        manifest: "kind: ModelVersion\nspec: {model: bot, version: v1.0.0, parent: v1.0.0, source: {ollama: {tag: 'a:1'}}}",
        names: "parent",
    },
    Bad {
        what: "steps that fall",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {steps: [{weight: 50}, {weight: 20}]}}}",
        names: "spec.strategy.canary.steps",
    },
    Bad {
        what: "steps that stay",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {steps: [{weight: 20}, {weight: 20}]}}}",
        names: "spec.strategy.canary.steps",
    },
    Bad {
        what: "a step of 100",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {steps: [{weight: 100}]}}}",
        names: "weight",
    },
    Bad {
        what: "a step of negative length",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {steps: [{weight: 10, duration: '-1s'}]}}}",
        names: "duration",
    },
    Bad {
        what: "an analysis by nothing",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {analysis: {metrics: []}}}}",
        names: "name one metric at least",
    },
    Bad {
        what: "a metric without a limit",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {analysis: {metrics: [{name: errorRate}]}}}}",
        names: "set one of maxIncrease, maxRatio and max",
    },
    Bad {
        what: "a metric with two limits",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {analysis: {metrics: [{name: errorRate, max: 0.1, maxRatio: 2}]}}}}",
        names: "set one of maxIncrease, maxRatio and max",
    },
    Bad {
        what: "a rate in percent",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {analysis: {metrics: [{name: errorRate, max: 5}]}}}}",
        names: "shares from 0 to 1",
    },
    Bad {
        what: "a metric that nobody measures",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {analysis: {metrics: [{name: mood, max: 1}]}}}}",
        names: "metrics[0].name",
    },
    Bad {
        what: "an analysis without pause",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {analysis: {interval: 100ms, metrics: [{name: errorRate, max: 0.1}]}}}}",
        names: "must be at least 1s",
    },
    Bad {
        what: "a query without bounds",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {analysis: {prometheus: [{name: a, query: up}]}}}}",
        names: "set min, max or both",
    },
    Bad {
        what: "two queries of one name",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {analysis: {prometheus: [{name: a, query: up, max: 1}, {name: a, query: down, max: 1}]}}}}",
        names: "each query needs a name of its own",
    },
    Bad {
        what: "copies of nothing",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {shadow: 0}}}",
        names: "spec.strategy.canary.shadow",
    },
    Bad {
        what: "more copies than requests",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {shadow: 101}}}",
        names: "spec.strategy.canary.shadow",
    },
    Bad {
        what: "the time of copies that nobody makes",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {shadowDuration: 1m}}}",
        names: "set shadow, too",
    },
    Bad {
        what: "copies for less than nothing",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {shadow: 10, shadowBudget: -1}}}",
        names: "spec.strategy.canary.shadowBudget",
    },
    Bad {
        what: "a share of bad scores as a number",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {analysis: {metrics: [{name: feedbackScore, maxIncrease: 3}]}}}}",
        names: "shares from 0 to 1",
    },
    Bad {
        what: "a row of no comparisons",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {canary: {analysis: {consecutiveSuccesses: 0, metrics: [{name: errorRate, max: 0.1}]}}}}",
        names: "spec.strategy.canary.analysis.consecutiveSuccesses",
    },
    Bad { what: "a key without a hash", manifest: "kind: ApiKey\nspec: {}", names: "spec.hash" },
    Bad { what: "a key in place of its hash", manifest: "kind: ApiKey\nspec: {hash: drv_secret}", names: "spec.hash" },
    Bad {
        what: "a key for no model",
        manifest: "kind: ApiKey\nspec: {hash: 'sha256:1111111111111111111111111111111111111111111111111111111111111111', models: []}",
        names: "spec.models",
    },
    Bad {
        what: "no request a minute",
        manifest: "kind: ApiKey\nspec: {hash: 'sha256:1111111111111111111111111111111111111111111111111111111111111111', requestsPerMinute: 0}",
        names: "spec.requestsPerMinute",
    },
    Bad {
        what: "a key that ends at no time",
        manifest: "kind: ApiKey\nspec: {hash: 'sha256:1111111111111111111111111111111111111111111111111111111111111111', expiresAt: tomorrow}",
        names: "spec.expiresAt",
    },
    Bad {
        what: "two strategies",
        manifest: "kind: ModelDeployment\nspec: {model: bot, version: v1.0.0, strategy: {immediate: {}, canary: {}}}",
        names: "either canary or immediate",
    },
    Bad { what: "a chain without steps", manifest: "kind: FallbackChain\nspec: {steps: []}", names: "spec.steps" },
    Bad {
        what: "a step without a target",
        manifest: "kind: FallbackChain\nspec: {steps: [{target: {}}]}",
        names: "name exactly one",
    },
    Bad {
        what: "a step with two targets",
        manifest: "kind: FallbackChain\nspec: {steps: [{target: {model: a, chain: b}}]}",
        names: "name exactly one",
    },
    Bad {
        what: "a failure that is none",
        manifest: "kind: FallbackChain\nspec: {steps: [{target: {model: a}, leaveOn: [Boredom]}]}",
        names: "spec.steps[0].leaveOn[0]",
    },
    Bad {
        what: "a number of parameters without a unit",
        manifest: "kind: RoutingProfile\nspec: {maxParameters: '14'}",
        names: "spec.maxParameters",
    },
    Bad {
        what: "a capability that is none",
        manifest: "kind: Worker\nspec: {model: 'auto:fast', capabilities: [taste]}",
        names: "spec.capabilities[0]",
    },
    Bad {
        what: "an entry without a pattern",
        manifest: "kind: ModelCatalog\nspec: {entries: [{family: llama}]}",
        names: "spec.entries[0].pattern",
    },
];

on_both_apis! {
    bad_specs_are_refused_with_the_field_named,
    names_that_can_not_be_used_are_refused,
    a_version_can_not_be_rewritten,
    defaults_are_filled_in,
    a_strategy_can_be_named_later,
    the_api_server_has_nothing_to_say_against_the_crds_and_samples,
}

async fn bad_specs_are_refused_with_the_field_named(server: Server) {
    let api = &*api(server).await;
    let namespace = namespace(api, "bad").await;
    for Bad { what, manifest, names } in BAD {
        let yaml = format!("apiVersion: drover.dev/v1alpha1\nmetadata: {{name: bad}}\n{manifest}\n");
        let answer = api.kubectl(&["create", "-n", &namespace, "--dry-run=server", "-f", "-"], Some(&yaml)).await;
        assert!(!answer.status.success(), "{what}: was accepted");
        assert!(answer.stderr.contains(names), "{what}: {} does not name {names}", answer.stderr);
    }
}

async fn names_that_can_not_be_used_are_refused(server: Server) {
    let api = &*api(server).await;
    let namespace = namespace(api, "names").await;
    let name = "n".repeat(64);
    for kind in ["OllamaNode\nspec: {url: 'http://host:1'}", "ModelPull\nspec: {model: 'a:1'}"] {
        let yaml = format!("apiVersion: drover.dev/v1alpha1\nmetadata: {{name: {name}}}\nkind: {kind}\n");
        let answer = api.kubectl(&["create", "-n", &namespace, "-f", "-"], Some(&yaml)).await;
        assert!(answer.stderr.contains("metadata.name must have at most 63"), "{}", answer.stderr);
    }
}

const VERSION: &str = r"
apiVersion: drover.dev/v1alpha1
kind: ModelVersion
metadata: {name: bot-1}
spec: {model: bot, version: v1.0.0, source: {ollama: {tag: 'a:1'}}, parameters: {temperature: 0.5}, tags: [a], changelog: x}
";

async fn a_version_can_not_be_rewritten(server: Server) {
    let api = &*api(server).await;
    let namespace = namespace(api, "immutable").await;
    api.kubectl_ok(&["create", "-n", &namespace, "-f", "-"], Some(VERSION)).await;
    let patch = async |patch: &str| {
        api.kubectl(&["patch", "mver", "bot-1", "-n", &namespace, "--type=merge", "-p", patch], None).await
    };
    for (patch_text, names) in [
        (r#"{"spec": {"version": "v1.0.1"}}"#, "model and version are immutable"),
        (r#"{"spec": {"source": {"ollama": {"tag": "b:1"}}}}"#, "source is immutable"),
        (r#"{"spec": {"parameters": {"temperature": 0.6}}}"#, "parameters are immutable"),
        (r#"{"spec": {"parameters": null}}"#, "parameters are immutable"),
        (r#"{"spec": {"systemPrompt": {"version": "1", "text": "x"}}}"#, "systemPrompt is immutable"),
        (r#"{"spec": {"parent": "v0.9.0"}}"#, "parent is immutable"),
    ] {
        let answer = patch(patch_text).await;
        assert!(answer.stderr.contains(names), "{patch_text}: {:?}", answer);
    }
    let answer = patch(r#"{"spec": {"changelog": "y", "tags": ["b"]}}"#).await;
    assert!(answer.status.success(), "{}", answer.stderr);
}

async fn defaults_are_filled_in(server: Server) {
    let api = &*api(server).await;
    let namespace = namespace(api, "defaults").await;
    let yaml = "
apiVersion: drover.dev/v1alpha1
kind: OllamaNode
metadata: {name: node}
spec: {url: 'http://host:1'}
---
apiVersion: drover.dev/v1alpha1
kind: ModelPull
metadata: {name: p}
spec: {model: 'a:1'}
---
apiVersion: drover.dev/v1alpha1
kind: ModelDeployment
metadata: {name: d}
spec: {model: bot, version: v1.0.0, strategy: {canary: {}}}
";
    api.kubectl_ok(&["create", "-n", &namespace, "-f", "-"], Some(yaml)).await;
    let node = api.get_json("onode", &namespace, "node").await;
    assert_eq!(node["spec"]["weight"], 100);
    assert_eq!(node["spec"]["maxConcurrentRequests"], 1);
    assert_eq!(node["spec"]["maintenance"], false);
    let pull = api.get_json("mpull", &namespace, "p").await;
    assert_eq!(pull["spec"]["timeout"], "5m");
    assert_eq!(pull["spec"]["updatePolicy"], "IfNotPresent");
    let deployment = api.get_json("mdep", &namespace, "d").await;
    assert_eq!(deployment["spec"]["placement"]["minNodes"], 1);
    assert_eq!(deployment["spec"]["rollbackWindow"], 2);
    let steps = &deployment["spec"]["strategy"]["canary"]["steps"];
    assert_eq!(steps[0]["weight"], 20);
    assert_eq!(steps[1]["weight"], 50);
    assert_eq!(steps[1]["duration"], "24h");
}

async fn a_strategy_can_be_named_later(server: Server) {
    let api = &*api(server).await;
    let namespace = namespace(api, "strategy").await;
    let deployment = |strategy: &str| {
        format!(
            "apiVersion: drover.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: d}}\n\
             spec: {{model: bot, version: v1.0.0{strategy}}}\n"
        )
    };
    for strategy in ["", ", strategy: {immediate: {}}", ", strategy: {canary: {}}", ""] {
        let yaml = deployment(strategy);
        api.kubectl_ok(&["apply", "-n", &namespace, "-f", "-"], Some(&yaml)).await;
    }
}

async fn the_api_server_has_nothing_to_say_against_the_crds_and_samples(server: Server) {
    let api = &*api(server).await;
    let namespace = namespace(api, "samples").await;
    let places: &[&str] = match server {
        Server::Real => &["crds", "manifests/samples", "manifests/quickstart"],
        // It has its definitions from the program, and takes no others; the other samples are Jobs with rights.
        Server::Embedded => &["manifests/samples/all.yaml", "manifests/quickstart"],
    };
    for place in places {
        let path = checkout(place).display().to_string();
        let arguments = ["apply", "--dry-run=server", "--validate=strict", "-n", &namespace, "-R", "-f", &path];
        let answer = api.kubectl(&arguments, None).await;
        assert!(answer.status.success(), "{place}: {}", answer.stderr);
        assert!(!answer.stderr.contains("unrecognized format"), "{place}: {}", answer.stderr);
    }
}
