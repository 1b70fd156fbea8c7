//! The model database: which entry tells what of which model.

use std::collections::BTreeMap;

use drover::domain::{
    model_db::{Capabilities, Capability, Catalogue, Entry, Layer, Parameters, SizeClass, bits, family},
    node::NodeModel,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn entry(pattern: &str) -> Entry {
    Entry { pattern: pattern.into(), ..Entry::default() }
}

fn of(entries: Vec<Entry>) -> Catalogue<Value> {
    let layer =
        Layer { entries: entries.into_iter().map(|entry| (entry, BTreeMap::new())).collect(), ..Layer::default() };
    Catalogue::new(&[layer]).0
}

fn set(all: &[Capability]) -> Capabilities {
    all.iter().copied().collect()
}

#[test]
fn lookup_tells_every_field_of_known_models() {
    use Capability::{Chat, Code, Embedding, Json, Thinking, Tools, Vision};
    let all = of(Vec::new());
    let rows: [(&str, &str, u64, &[Capability], &str); 12] = [
        ("llama3.2:1b", "llama", 131_072, &[Chat, Tools, Json], "1B"),
        ("llama3.1", "llama", 131_072, &[Chat, Tools, Json], ""),
        ("qwen2.5-coder:7b", "qwen-coder", 32_768, &[Chat, Code, Tools, Json], "7B"),
        ("gemma3:4b-it-q4_K_M", "gemma", 131_072, &[Chat, Vision, Json], "4B"),
        ("gemma3:1b", "gemma", 32_768, &[Chat, Json], "1B"),
        ("mixtral:8x7b", "mixtral", 32_768, &[Chat, Tools, Json], "56B"),
        ("deepseek-r1:671b", "deepseek", 131_072, &[Chat, Tools, Thinking, Json], "671B"),
        ("codellama:13b", "codellama", 16_384, &[Chat, Code, Json], "13B"),
        ("starcoder2:3b", "starcoder", 16_384, &[Chat, Code, Json], "3B"),
        ("nomic-embed-text:latest", "nomic-embed", 2048, &[Embedding], ""),
        ("llava:34b", "llava", 32_768, &[Chat, Vision, Json], "34B"),
        ("registry.example/team/phi4:14b", "phi", 16_384, &[Chat, Json], "14B"),
    ];
    for (name, family, context, capabilities, size) in rows {
        let known = all.lookup(name);
        let told = (known.family.as_str(), known.context_length, known.capabilities);
        assert_eq!(told, (family, context, set(capabilities)), "{name}");
        assert_eq!(known.parameters.map(|size| size.to_string()).unwrap_or_default(), size, "{name}");
    }
    assert_eq!(all.lookup("gpt-4o-mini").max_output_tokens, Some(16_384));
    assert_eq!(all.lookup("deepseek-r1:8b").options["temperature"], json!(0.6));
}

#[test]
fn unknown_models_get_defaults_and_the_family_that_their_name_tells() {
    use Capability::{Chat, Code, Embedding, Json, Vision};
    let all = of(Vec::new());
    let rows: [(&str, &str, &[Capability]); 7] = [
        ("ours:latest", "", &[Chat, Json]),
        ("hf.co/bartowski/Llama-9-3B-Instruct-GGUF:Q4_K_M", "llama", &[Chat, Json]),
        ("deepseek-x-distill-qwen-7b", "deepseek", &[Chat, Json]),
        ("team/my-qwen9-coder:7b", "qwen-coder", &[Chat, Code, Json]),
        ("acme-embed-small", "", &[Embedding]),
        ("some-vision-model", "", &[Chat, Vision, Json]),
        ("philosopher:7b", "phi", &[Chat, Json]),
    ];
    for (name, family, capabilities) in rows {
        let known = all.lookup(name);
        let told = (known.family.as_str(), known.context_length, known.capabilities);
        assert_eq!(told, (family, 4096, set(capabilities)), "{name}");
    }
}

#[test]
fn family_is_detected_from_names() {
    let rows = [
        ("codellama:7b", Some("codellama")),
        ("tinyllama", Some("llama")),
        ("llava-llama3:8b", Some("llava")),
        ("dolphin-mixtral:8x7b", Some("mixtral")),
        ("Meta-Llama-3.1-8B-Instruct", Some("llama")),
        ("meta-llama/llama-3.1-70b-instruct", Some("llama")),
        ("qwen2.5-coder:1.5b", Some("qwen-coder")),
        ("mistral-nemo", Some("mistral")),
        ("xllama", None),
        ("llama/ours", None),
    ];
    for (name, expected) in rows {
        assert_eq!(family(name), expected, "{name}");
    }
}

#[test]
fn what_a_node_says_counts_more_than_the_catalogue() {
    use Capability::{Chat, Code, Json, Tools, Vision};
    let all = of(Vec::new());
    let said = |capabilities: &[&str]| NodeModel {
        capabilities: capabilities.iter().map(|&word| word.into()).collect(),
        context_length: Some(512),
        parameter_size: "1.2B".into(),
        quantization: "Q4_K_M".into(),
        ..NodeModel::default()
    };
    let known = all.lookup("qwen2.5-coder:7b").with_facts(&said(&["completion", "vision", "insert"]));
    assert_eq!((known.capabilities, known.context_length), (set(&[Chat, Vision, Code, Json]), 512));
    assert_eq!((known.parameters, known.bits), (Some(Parameters(1_200_000_000)), Some(4)));
    let silent = NodeModel { context_length: None, ..said(&[]) };
    let known = all.lookup("qwen2.5-coder:7b").with_facts(&silent);
    assert_eq!((known.capabilities, known.context_length), (set(&[Chat, Code, Tools, Json]), 32_768));
}

#[test]
fn glob_matching_of_names_with_and_without_namespaces() {
    let rows = [
        ("ours", "ours:1", true),
        ("ours", "ours", true),
        ("ours", "oursler:1", false),
        ("ours", "team/ours:1", true),
        ("team/ours", "team/ours:1", true),
        ("team/ours", "other/ours:1", false),
        ("team/*", "team/ours:1", true),
        ("ours-*:*", "ours-7b:q4", true),
        ("ours:7b*", "ours:7b-q4", true),
        ("ours:7b*", "ours:70b", false),
        ("OURS:7B", "ours:7b", true),
        ("our?:1", "ours:1", true),
    ];
    for (pattern, name, fits) in rows {
        let all = of(vec![Entry { family: Some("found".into()), ..entry(pattern) }]);
        assert_eq!(all.lookup(name).family == "found", fits, "{pattern} {name}");
    }
}

#[test]
fn of_two_layers_that_say_the_same_thing_the_first_counts_and_the_other_is_told() {
    let layer = |family: &str, model: &str| Layer {
        entries: vec![(Entry { family: Some(family.into()), ..entry("ours") }, BTreeMap::new())],
        defaults: BTreeMap::from([("fast".to_owned(), model.to_owned())]),
    };
    let (all, conflicts) = Catalogue::<Value>::new(&[layer("a", "x:1"), layer("b", "y:1"), layer("a", "x:1")]);
    assert_eq!((all.lookup("ours:7").family.as_str(), all.default_for("fast")), ("a", Some("x:1")));
    let told: Vec<_> = conflicts.iter().map(|conflict| (conflict.layer, conflict.other)).collect();
    assert_eq!(told, [(1, Some(0)), (1, Some(0))], "what says the same is no conflict");
    let bad = Layer { entries: vec![(entry("ours-[a"), BTreeMap::new())], ..Layer::default() };
    let (_, conflicts) = Catalogue::<Value>::new(&[bad]);
    assert!(conflicts[0].message.contains("ours-[a"), "{conflicts:?}");
}

#[test]
fn numbers_of_parameters_and_bits_are_read_as_people_write_them() {
    let rows = [
        ("3.2B", Some(3_200_000_000)),
        ("137M", Some(137_000_000)),
        ("8x7b", Some(56_000_000_000)),
        ("1T", Some(1_000_000_000_000)),
    ];
    for (text, count) in rows {
        assert_eq!(text.parse::<Parameters>().ok().map(|parameters| parameters.0), count, "{text}");
    }
    for text in ["", "B", "7", "-7B", "7 B", "x7B", "8xB", "é", "1e9B", "infB", "NaNB"] {
        assert!(text.parse::<Parameters>().is_err(), "{text}");
    }
    let quantizations = [
        ("Q4_K_M", Some(4)),
        ("F16", Some(16)),
        ("BF16", Some(16)),
        ("IQ3_XS", Some(3)),
        ("MXFP4", Some(4)),
        ("unknown", None),
    ];
    for (text, expected) in quantizations {
        assert_eq!(bits(text), expected, "{text}");
    }
    let classes = [
        ("500M", SizeClass::Tiny),
        ("3B", SizeClass::Small),
        ("14B", SizeClass::Medium),
        ("32B", SizeClass::Large),
        ("70B", SizeClass::Huge),
    ];
    for (text, class) in classes {
        assert_eq!(text.parse::<Parameters>().unwrap().class(), class, "{text}");
    }
}

proptest! {
    #[test]
    fn most_specific_pattern_wins_whatever_the_order(name in "[a-z]{2,12}", swap in any::<bool>(), at in 0usize..12) {
        let at = at.min(name.len());
        let context = |pattern: String, length| Entry { context_length: Some(length), ..entry(&pattern) };
        let tagged = format!("{name}:7b");
        let mut entries = vec![
            context("*".into(), 1),
            context(format!("{}*", &name[..at]), 2),
            context(name.clone(), 3),
            context(tagged.clone(), 4),
        ];
        if swap {
            entries.reverse();
        }
        let all = of(entries);
        prop_assert_eq!(all.lookup(&tagged).context_length, 4);
        let other = all.lookup(&format!("{name}:8b")).context_length;
        prop_assert!(other == 3 || at == name.len(), "{other}");
        prop_assert_eq!(all.lookup("0").context_length, if at == 0 { all.lookup("0").context_length } else { 1 });
    }

    #[test]
    fn every_name_is_looked_up_without_a_panic(name in ".{0,40}") {
        let known = of(vec![entry("*")]).lookup(&name);
        prop_assert!(known.context_length > 0);
        let _ = (family(&name), Parameters::in_name(&name), bits(&name));
    }

    #[test]
    fn sizes_that_are_printed_can_be_read(count in 1u64..2_000_000_000_000) {
        let printed = Parameters(count).to_string();
        let read: Parameters = printed.parse().unwrap();
        let difference = read.0.abs_diff(count) as f64;
        prop_assert!(difference <= (count as f64 * 0.06).max(100.0), "{count} {printed}");
    }
}
