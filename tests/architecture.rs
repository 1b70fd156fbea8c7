//! The shape of `src/`: who may use what. Each rule reads the sources as text and names file and line of a breach.

#[path = "support/checkout.rs"]
mod checkout;

use std::{fs, path::Path};

use checkout::checkout;

/// The code of one file without comments and string contents, line by line.
struct Source {
    path: String,
    lines: Vec<String>,
    raw: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let lines = strip(text).lines().map(str::to_owned).collect();
        Self { path: path.into(), lines, raw: text.lines().map(str::to_owned).collect() }
    }

    /// Whether the file is `place` or lies under it: `gateway` is `gateway.rs` and `gateway/…`.
    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.path == *place
                || self.path.strip_prefix(place).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    }

    fn lines_with(&self, is_bad: impl Fn(&str) -> bool) -> Vec<String> {
        let bad = self.lines.iter().enumerate().filter(|(_, line)| is_bad(line));
        bad.map(|(index, line)| format!("src/{}:{}: {}", self.path, index + 1, line.trim())).collect()
    }

    fn naming(&self, words: &[&str]) -> Vec<String> {
        self.lines_with(|line| words.iter().any(|word| has_word(line, word)))
    }

    /// The first part of every path that begins with a crate: `use kube::…`, `tokio::time::sleep`, `crate::api`.
    fn roots(&self) -> Vec<(usize, String)> {
        let uses = self.used_modules().into_iter().map(|(line, module)| (line, format!("crate::{module}")));
        let inline = self.lines.iter().enumerate().flat_map(|(index, line)| {
            path_roots(line).into_iter().filter(|root| root != "crate").map(move |root| (index + 1, root))
        });
        uses.chain(inline).collect()
    }

    /// The modules of this crate that the file names, also inside `use crate::{…}` over several lines.
    fn used_modules(&self) -> Vec<(usize, String)> {
        let code = self.lines.join("\n");
        let mut found = Vec::new();
        for (at, _) in code.match_indices("crate::") {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + "crate::".len()..];
            match rest.strip_prefix('{') {
                Some(group) => found.extend(group_heads(group).into_iter().map(|head| (line, head))),
                None => found.push((line, word_at(rest))),
            }
        }
        found
    }
}

/// The first word of each entry of a `use` group, whose opening brace was read already.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut expects) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expects = true,
            c if expects && (c.is_alphanumeric() || c == '_') => {
                heads.push(word_at(&group[at..]));
                expects = false;
            }
            _ => {}
        }
    }
    heads
}

fn word_at(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Every lower-case word before `::` that no `::` comes before.
fn path_roots(line: &str) -> Vec<String> {
    let mut roots = Vec::new();
    for (at, _) in line.match_indices("::") {
        let word: String = {
            let reversed: String = line[..at].chars().rev().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            reversed.chars().rev().collect()
        };
        let before = &line[..at - word.len()];
        if word.starts_with(|c: char| c.is_ascii_lowercase()) && !before.ends_with("::") {
            roots.push(word);
        }
    }
    roots
}

fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let opens = word.starts_with(inside);
    let closes = word.ends_with(inside);
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let is_longer = (opens && before.ends_with(inside)) || (closes && after.starts_with(inside));
        !is_longer
    })
}

/// Comments and the insides of strings and characters become spaces; line breaks stay.
fn strip(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    let blank = |out: &mut String, from: usize, to: usize| {
        out.extend(chars[from..to.min(chars.len())].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
    };
    while at < chars.len() {
        let rest = |offset: usize| chars.get(at + offset).copied().unwrap_or('\0');
        let begins_word = at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        let end = match chars[at] {
            '/' if rest(1) == '/' => (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()),
            '/' if rest(1) == '*' => {
                let close = (at + 2..chars.len()).find(|i| chars[*i] == '*' && chars.get(i + 1) == Some(&'/'));
                close.map_or(chars.len(), |i| i + 2)
            }
            'r' if begins_word && (rest(1) == '"' || (rest(1) == '#' && matches!(rest(2), '"' | '#'))) => {
                let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
                let closes =
                    |i: &usize| chars[*i] == '"' && (1..=hashes).all(|offset| chars.get(i + offset) == Some(&'#'));
                let close = (at + 2 + hashes..chars.len()).find(closes);
                close.map_or(chars.len(), |i| i + 1 + hashes)
            }
            '"' => {
                let mut i = at + 1;
                while i < chars.len() && chars[i] != '"' {
                    i += if chars[i] == '\\' { 2 } else { 1 };
                }
                i + 1
            }
            '\'' if rest(1) == '\\' => (at + 3..chars.len()).find(|i| chars[*i] == '\'').map_or(chars.len(), |i| i + 1),
            '\'' if rest(2) == '\'' => at + 3,
            _ => {
                out.push(chars[at]);
                at += 1;
                continue;
            }
        };
        blank(&mut out, at, end);
        at = end;
    }
    out
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).expect("src/ can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("under src/").to_string_lossy().replace('\\', "/");
                found.push(Source::new(&name, &fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    let root = checkout("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

#[track_caller]
fn must_be_empty(rule: &str, breaches: Vec<String>) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}

/// What `places` may name: crates, and modules of this crate as `crate::…`.
fn check_uses(all: &[Source], places: &[&str], allowed: &[&str]) -> Vec<String> {
    let crates = dependencies();
    let own = all.iter().filter(|source| source.is_in(places));
    let breaches = own.flat_map(|source| {
        let bad = source.roots().into_iter().filter(|(_, root)| {
            let is_outer = root.starts_with("crate::") || crates.iter().any(|name| name == root);
            is_outer && !allowed.contains(&root.as_str())
        });
        bad.map(|(line, root)| format!("src/{}:{line}: {root}", source.path)).collect::<Vec<_>>()
    });
    breaches.collect()
}

/// Every dependency as Rust code spells it.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(checkout("Cargo.toml")).expect("Cargo.toml");
    let tables = manifest.split("\n[").filter(|table| table.starts_with("dependencies]"));
    let lines = tables.flat_map(|table| table.lines().skip(1));
    lines.filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim().replace('-', "_")).collect()
}

const CLOCKS: &[&str] = &["Timestamp::now", "Zoned::now", "SystemTime::now", "Instant::now"];
const PURE: &[&str] = &[
    "controller/key/status",
    "controller/node/status",
    "controller/pull/plan",
    "controller/pull/status",
    "controller/pull/transitions",
    "controller/version/audit",
    "controller/version/plan",
    "controller/version/status",
    "controller/deployment/authors",
    "controller/deployment/status",
    "controller/provider/status",
    "controller/version/provided",
    "providers/anthropic",
    "providers/native",
    "providers/openai",
    "providers/sse",
    "routing_table/compile",
    "routing_table/providers",
    "standalone/patch",
    "standalone/schema",
    "health/facts",
    "manifests/documents",
    "cli/rollout/view",
    "cli/up/words",
    "export",
];

/// The crates that the domain may use.
const DOMAIN_CRATES: [&str; 6] = ["serde", "schemars", "semver", "globset", "strsim", "jiff"];

/// The fuzzer takes the domain's sources as its own, and is built seldom.
#[test]
fn the_fuzzer_has_every_crate_of_the_domain() {
    let manifest = fs::read_to_string(checkout("tests/fuzz/Cargo.toml")).expect("its manifest");
    let lacking =
        DOMAIN_CRATES.iter().filter(|name| !manifest.lines().any(|line| line.starts_with(&format!("{name} = "))));
    must_be_empty("tests/fuzz/Cargo.toml lacks a crate", lacking.map(|name| (*name).to_owned()).collect());
}

#[test]
fn the_domain_uses_no_crate_that_could_reach_the_world() {
    let allowed: Vec<&str> = DOMAIN_CRATES.into_iter().chain(["crate::domain"]).collect();
    // What is registered is compared and kept as the JSON that it is.
    let with_json: Vec<&str> = allowed.iter().copied().chain(["serde_json"]).collect();
    let (registry, others): (Vec<_>, Vec<_>) =
        sources().into_iter().partition(|source| source.is_in(&["domain/registry"]));
    let breaches = [check_uses(&others, &["domain"], &allowed), check_uses(&registry, &["domain"], &with_json)];
    must_be_empty(
        "domain may use std, serde, schemars, semver, globset, strsim and jiff's values only, and in registry serde_json",
        breaches.concat(),
    );
}

#[test]
fn the_domain_has_no_clock_no_randomness_and_no_io() {
    let banned = [
        "async",
        "await",
        "Instant",
        "SystemTime",
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "std::io",
        "std::process",
    ];
    let groups = ["fs", "net", "env", "thread", "io", "process"];
    let breaches = |source: &Source| {
        let grouped = source.lines_with(|line| {
            line.trim_start().starts_with("use std::{") && groups.iter().any(|module| has_word(line, module))
        });
        [source.naming(&banned), source.naming(CLOCKS), grouped].concat()
    };
    let all = sources();
    let found = all.iter().filter(|source| source.is_in(&["domain"])).flat_map(breaches).collect();
    must_be_empty("take time and chance as arguments, and leave I/O to the folders around the domain", found);
}

#[test]
fn the_kinds_know_the_domain_only() {
    let allowed = ["serde", "serde_json", "schemars", "kube", "k8s_openapi", "jiff", "crate::domain", "crate::api"];
    must_be_empty(
        "api may use kube, k8s-openapi, schemars, serde and domain",
        check_uses(&sources(), &["api"], &allowed),
    );
}

#[test]
fn the_ports_know_the_domain_only() {
    let allowed = ["serde", "serde_json", "bytes", "futures", "jiff", "thiserror", "crate::domain"];
    must_be_empty("ports may use domain and plain types", check_uses(&sources(), &["ports"], &allowed));
}

#[test]
fn the_gateway_never_touches_kubernetes() {
    let all = sources();
    let modules = [
        "crate::routing_table",
        "crate::ports",
        "crate::records",
        "crate::domain",
        "crate::gateway",
        "crate::supervisor",
    ];
    let crates = dependencies();
    let crates =
        crates.iter().map(String::as_str).filter(|name| !matches!(*name, "kube" | "kube_runtime" | "k8s_openapi"));
    let allowed: Vec<&str> = modules.into_iter().chain(crates).collect();
    let mut breaches = check_uses(&all, &["gateway"], &allowed);
    // What the data path needs of the table is its value: the feed, which holds a client, is wired by the cli.
    let words = ["kube", "kube_runtime", "k8s_openapi", "cluster", "feed"];
    breaches.extend(all.iter().filter(|s| s.is_in(&["gateway"])).flat_map(|source| source.naming(&words)));
    must_be_empty("gateway may use routing_table, ports, records, domain and supervisor, and no Kubernetes", breaches);
}

#[test]
fn the_table_that_requests_read_knows_no_kubernetes() {
    let all = sources();
    let places = ["routing_table/mod", "routing_table/store"];
    let words = ["kube", "kube_runtime", "k8s_openapi", "cluster", "api"];
    let breaches = all.iter().filter(|source| source.is_in(&places)).flat_map(|source| source.naming(&words));
    must_be_empty("only compile.rs, providers.rs and feed.rs of routing_table may know objects", breaches.collect());
}

#[test]
fn the_health_of_models_is_read_from_objects_alone() {
    let all = sources();
    let modules =
        ["crate::api", "crate::cluster", "crate::domain", "crate::supervisor", "crate::telemetry", "crate::health"];
    let crates = dependencies();
    let allowed: Vec<&str> = modules.into_iter().chain(crates.iter().map(String::as_str)).collect();
    must_be_empty("health may use api, cluster and domain", check_uses(&all, &["health"], &allowed));
}

#[test]
fn nodes_and_providers_are_spoken_to_without_knowing_kubernetes() {
    let all = sources();
    let words = ["kube", "kube_runtime", "k8s_openapi", "cluster", "api"];
    let breaches = all.iter().filter(|source| source.is_in(&["ollama", "providers"]));
    let breaches = breaches.flat_map(|source| source.naming(&words));
    must_be_empty("ollama and providers may use ports and domain only", breaches.collect());
}

#[test]
fn only_cluster_makes_a_kubernetes_client_or_an_api_handle() {
    let words = [
        "Client::try_default",
        "Client::try_from",
        "Config::infer",
        "Config::from_kubeconfig",
        "Api::all",
        "Api::namespaced",
        "Api::default_namespaced",
        "Api::all_with",
        "Api::namespaced_with",
        "kube::Client",
        "kube::client",
        "Recorder::new",
        "watcher::watcher",
    ];
    let all = sources();
    // `Client` of a `use kube::{…}` is the same client.
    let imports = |source: &Source| {
        source.lines_with(|line| line.trim_start().starts_with("use kube::{") && has_word(line, "Client"))
    };
    let others = all.iter().filter(|source| !source.is_in(&["cluster", "gateway", "mirror", "ollama", "providers"]));
    let breaches = others.flat_map(|source| [source.naming(&words), imports(source)].concat()).collect();
    must_be_empty("go through crate::cluster", breaches);
}

#[test]
fn the_embedded_api_stands_alone() {
    let crates = dependencies();
    let crates = crates.iter().map(String::as_str).filter(|name| !matches!(*name, "kube" | "kube_runtime"));
    let allowed: Vec<&str> = ["crate::standalone"].into_iter().chain(crates).collect();
    must_be_empty(
        "standalone knows no kind of ours and nobody who uses it",
        check_uses(&sources(), &["standalone"], &allowed),
    );
}

#[test]
fn manifests_are_applied_through_cluster_alone() {
    let modules = ["crate::api", "crate::cluster", "crate::supervisor", "crate::telemetry", "crate::manifests"];
    let crates = dependencies();
    let allowed: Vec<&str> = modules.into_iter().chain(crates.iter().map(String::as_str)).collect();
    must_be_empty("manifests may use cluster", check_uses(&sources(), &["manifests"], &allowed));
}

#[test]
fn backups_are_of_files_only() {
    let crates = dependencies();
    let crates =
        crates.iter().map(String::as_str).filter(|name| !matches!(*name, "kube" | "kube_runtime" | "k8s_openapi"));
    let modules = ["crate::backup", "crate::data_dir", "crate::mirror", "crate::standalone", "crate::supervisor"];
    let allowed: Vec<&str> = modules.into_iter().chain(crates).collect();
    must_be_empty(
        "backup may use data_dir, mirror and standalone, and no Kubernetes",
        check_uses(&sources(), &["backup", "data_dir"], &allowed),
    );
}

#[test]
fn no_code_path_knows_which_api_it_talks_to() {
    let all = sources();
    let places = ["cluster", "controller", "gateway", "routing_table", "health", "mirror"];
    // `cluster/mod.rs` makes a client of it; whoever has the client can't tell.
    let told = all.iter().filter(|source| source.is_in(&places) && !source.is_in(&["cluster/mod"]));
    must_be_empty(
        "take a client or a table, whoever answers behind it",
        told.flat_map(|source| source.naming(&["standalone"])).collect(),
    );
}

#[test]
fn only_the_embedded_api_and_the_records_speak_sql() {
    let all = sources();
    let others = all.iter().filter(|source| !source.is_in(&["standalone", "records"]));
    must_be_empty(
        "SQL belongs to standalone and records",
        others.flat_map(|source| source.naming(&["sqlx"])).collect(),
    );
}

#[test]
fn the_mirror_never_touches_kubernetes() {
    let all = sources();
    let modules =
        ["crate::ports", "crate::domain", "crate::mirror", "crate::settings", "crate::supervisor", "crate::telemetry"];
    let crates = dependencies();
    let crates =
        crates.iter().map(String::as_str).filter(|name| !matches!(*name, "kube" | "kube_runtime" | "k8s_openapi"));
    let allowed: Vec<&str> = modules.into_iter().chain(crates).collect();
    must_be_empty(
        "mirror may use ports, domain, settings, supervisor and telemetry, and no Kubernetes",
        check_uses(&all, &["mirror"], &allowed),
    );
}

#[test]
fn only_ollama_providers_gateway_mirror_and_prometheus_call_http_servers() {
    let all = sources();
    // traces.rs sends spans to a collector; no request depends on it.
    // controller/client.rs is how the command line asks a controller.
    let places =
        ["ollama", "providers", "gateway", "mirror", "prometheus", "telemetry/traces.rs", "controller/client.rs"];
    let others = all.iter().filter(|source| !source.is_in(&places));
    // settings.rs checks URLs with reqwest's parser, which calls nobody.
    let breaches = others
        .flat_map(|source| source.lines_with(|line| has_word(line, "reqwest") && !has_word(line, "reqwest::Url")));
    must_be_empty("outgoing HTTP belongs to ollama, providers, gateway, mirror and prometheus", breaches.collect());
}

#[test]
fn only_the_supervisor_starts_tasks() {
    let all = sources();
    let words = ["JoinSet", "TaskTracker", "spawn", "spawn_blocking", "spawn_local", "thread::Builder"];
    let others = all.iter().filter(|source| !source.is_in(&["supervisor"]));
    must_be_empty(
        "start it through crate::supervisor: nobody would notice its end",
        others.flat_map(|source| source.naming(&words)).collect(),
    );
}

#[test]
fn nothing_in_src_may_panic_on_purpose() {
    let words =
        [".unwrap()", ".expect(", ".unwrap_err()", ".expect_err(", "panic!", "todo!", "unimplemented!", "unreachable!"];
    must_be_empty(
        "return an error instead",
        sources()
            .iter()
            .flat_map(|source| source.lines_with(|line| words.iter().any(|word| line.contains(word))))
            .collect(),
    );
}

#[test]
fn every_allowed_lint_says_why() {
    must_be_empty(
        "put `// why` behind it, or reason = \"…\" in it",
        sources().iter().flat_map(unexplained_allows).collect(),
    );
}

fn unexplained_allows(source: &Source) -> Vec<String> {
    let is_allow =
        |line: &str| ["#[allow", "#![allow", "#[expect(", "#![expect("].iter().any(|word| line.contains(word));
    let unexplained = source.lines.iter().zip(&source.raw).enumerate().filter(|(index, (line, raw))| {
        let before = index.checked_sub(1).and_then(|index| source.raw.get(index));
        let explained = raw.contains("reason = ")
            || raw.contains("// ")
            || before.is_some_and(|line| line.trim_start().starts_with("// "));
        is_allow(line) && !explained
    });
    unexplained.map(|(index, (line, _))| format!("src/{}:{}: {}", source.path, index + 1, line.trim())).collect()
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = sources().into_iter().filter(|source| source.raw.len() > 450);
    must_be_empty("split it", long.map(|source| format!("src/{}: {} lines", source.path, source.raw.len())).collect());
}

#[test]
fn every_file_says_what_it_is_for() {
    // The files of src/api say it on their kinds, whose doc comments become the CRDs'.
    let all = sources();
    let silent = all.iter().filter(|source| {
        let is_kind = source.is_in(&["api"]) && source.path != "api/mod.rs";
        let mark = if is_kind { "///" } else { "//!" };
        !source.raw.iter().any(|line| line.starts_with(mark))
    });
    must_be_empty("begin it with `//!`", silent.map(|source| format!("src/{}:1", source.path)).collect());
}

#[test]
fn plans_and_statuses_are_pure() {
    let all = sources();
    let pure: Vec<&Source> = all
        .iter()
        .filter(|source| {
            let named = source.path.starts_with("controller/")
                && (source.path.ends_with("/plan.rs") || source.path.ends_with("/status.rs"));
            named || source.is_in(PURE)
        })
        .collect();
    let missing = PURE.iter().filter(|place| !all.iter().any(|source| source.is_in(&[place])));
    must_be_empty(
        "listed as pure, but gone: correct the list",
        missing.map(|place| format!("src/{place}.rs")).collect(),
    );
    must_be_empty("take it as an argument", pure.iter().flat_map(|source| impurities(source)).collect());
}

fn impurities(source: &Source) -> Vec<String> {
    let words = [
        "async", "await", "Context", "Client", "tokio", "rand", "cluster", "std::fs", "std::env", "reqwest", "tracing",
    ];
    [source.naming(&words), source.naming(CLOCKS)].concat()
}

mod the_scanner {
    use super::*;

    fn bad(text: &str) -> Source {
        Source::new("domain/bad.rs", text)
    }

    #[test]
    fn finds_crates_and_modules_wherever_they_are_named() {
        let all = [bad(
            "use tokio::sync::Mutex;\nuse crate::{\n    api::{A, gateway},\n    domain::x,\n    cluster,\n};\nfn f() { rand::random() }\nfn g(x: crate::ports::P) {}\nuse {kube::Api};",
        )];
        let found = check_uses(&all, &["domain"], &["crate::domain"]);
        let expected = [
            "src/domain/bad.rs:2: crate::api",
            "src/domain/bad.rs:2: crate::cluster",
            "src/domain/bad.rs:8: crate::ports",
            "src/domain/bad.rs:1: tokio",
            "src/domain/bad.rs:7: rand",
            "src/domain/bad.rs:9: kube",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn looks_only_where_a_rule_applies() {
        assert!(check_uses(&[bad("use tokio::x;")], &["gateway"], &[]).is_empty());
        assert!(Source::new("gateway.rs", "").is_in(&["gateway"]));
        assert!(Source::new("gateway/a/b.rs", "").is_in(&["gateway"]));
        assert!(!Source::new("gateways/a.rs", "").is_in(&["gateway"]));
    }

    #[test]
    fn skips_comments_and_strings_but_not_what_follows_them() {
        let text = "// tokio::spawn(a)\n/* x\n unwrap() */ let s = \"panic!\\\"\"; kube();\nlet r = r#\"a\"kube\"#; let c = '\"'; spawn(x);";
        let source = bad(text);
        assert_eq!(
            source.naming(&["kube"]),
            ["src/domain/bad.rs:3: kube();"].map(|line| line.replace("kube();", source.lines[2].trim()))
        );
        assert_eq!(source.naming(&["spawn"]).len(), 1);
        assert!(source.naming(&["panic", "unwrap", "tokio"]).is_empty());
        assert_eq!(source.lines.len(), text.lines().count());
    }

    #[test]
    fn tells_words_from_parts_of_words() {
        assert!(has_word("x.spawn(y)", "spawn") && has_word("use a::{Client, B}", "Client"));
        assert!(
            !has_word("respawn(y)", "spawn") && !has_word("HttpClient", "Client") && !has_word("Clients", "Client")
        );
        assert!(has_word("Timestamp::now()", "Timestamp::now") && !has_word("Timestamp::nowhere", "Timestamp::now"));
    }

    #[test]
    fn finds_clocks_and_async_in_what_should_be_pure() {
        let found = impurities(&bad("pub async fn plan(context: &Context) {\n    let now = Timestamp::now();\n}"));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn finds_allowed_lints_without_a_reason() {
        let text = "#[allow(dead_code)]\nfn a() {}\n#[allow(dead_code)] // used by the next one\n// Because.\n#[allow(x)]\n#[expect(x, reason = \"r\")]";
        assert_eq!(unexplained_allows(&bad(text)), ["src/domain/bad.rs:1: #[allow(dead_code)]"]);
    }

    #[test]
    fn reads_all_of_src_and_the_dependencies() {
        let all = sources();
        for place in ["domain", "gateway", "mirror", "cluster", "supervisor", "routing_table/compile", "main"] {
            assert!(all.iter().any(|source| source.is_in(&[place])), "src/{place} is gone: correct the rules");
        }
        let crates = dependencies();
        assert!(crates.len() > 20 && crates.contains(&"k8s_openapi".into()), "{crates:?}");
        assert!(!crates.contains(&"proptest".into()));
    }
}
