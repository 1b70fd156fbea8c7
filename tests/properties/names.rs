//! Names, durations and versions: what the schema lets in is what the code can read.

use std::cmp::Ordering;

use drover::{
    api::MODEL_PATTERN,
    domain::{
        alias::{alias, is_alias, is_hidden, is_own, is_own_transit, token, token_in},
        duration::{self, HumanDuration},
        model_name::{self, ModelName},
        version,
    },
};
use proptest::prelude::*;
use regex::Regex;

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern")
}

/// Made of the characters that names are made of: hits near misses far more often than arbitrary text does.
const NAME_LIKE: &str = "[aZ0_.:/-]{0,14}";
const DURATION_LIKE: &str = "[0-9hms.]{0,12}";

fn is_name(text: &str) -> bool {
    text.parse::<ModelName>().is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_schema_takes_as_a_model_is_a_model_name(text in prop_oneof![NAME_LIKE, ".{0,12}"]) {
        let in_schema = regex(model_name::PATTERN).is_match(&text);
        prop_assert!(!in_schema || is_name(&text), "{text:?} passes the schema and can't be read");
        if let Ok(name) = text.parse::<ModelName>() {
            let usual_host = regex("^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?$").is_match(&name.host);
            prop_assert_eq!(in_schema, usual_host, "{} and the schema differ", text);
        }
    }

    #[test]
    fn what_matches_the_pattern_is_a_model_name(text in model_name::PATTERN.trim_matches(['^', '$'])) {
        prop_assert!(is_name(&text), "{text:?}");
    }

    #[test]
    fn a_name_is_read_as_it_was_written(text in NAME_LIKE) {
        let Ok(name) = text.parse::<ModelName>() else { return Ok(()) };
        prop_assert_eq!(name.to_string().parse::<ModelName>(), Ok(name.clone()));
        prop_assert!(ModelName::same(&text, &name.to_string()));
        prop_assert!(ModelName::same(&text.to_uppercase(), &text.to_lowercase()));
    }

    #[test]
    fn sameness_is_an_equivalence(names in prop::collection::vec("[aA](:[bB]|:latest)?|library/a|registry.ollama.ai/library/A|x/a|\\*", 3)) {
        let [a, b, c] = &names[..] else { unreachable!() };
        prop_assert!(ModelName::same(a, a));
        prop_assert_eq!(ModelName::same(a, b), ModelName::same(b, a));
        prop_assert!(!(ModelName::same(a, b) && ModelName::same(b, c)) || ModelName::same(a, c));
    }

    #[test]
    fn the_schema_takes_exactly_the_durations_that_can_be_read(text in prop_oneof![DURATION_LIKE, ".{0,8}"]) {
        prop_assert_eq!(regex(duration::PATTERN).is_match(&text), text.parse::<HumanDuration>().is_ok(), "{:?}", text);
    }

    #[test]
    fn a_duration_is_read_as_it_was_written(text in duration::PATTERN.trim_matches(['^', '$'])) {
        let read: HumanDuration = text.parse().expect("it matches the pattern");
        prop_assert_eq!(read.to_string().parse(), Ok(read));
        prop_assert!(regex(duration::PATTERN).is_match(&read.to_string()));
        let json = serde_json::to_string(&read).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<HumanDuration>(&json).expect("a duration"), read);
    }

    #[test]
    fn a_duration_is_the_sum_of_its_parts(h in 0..1000u64, m in 0..1000u64, s in 0..1000u64, ms in 0..1000u64) {
        let read: HumanDuration = format!("{h}h{m}m{s}s{ms}ms").parse().expect("a duration");
        prop_assert_eq!(read.0.as_millis(), u128::from(((h * 60 + m) * 60 + s) * 1000 + ms));
    }

    #[test]
    fn versions_are_ordered_by_their_numbers(a in any::<[u16; 3]>(), b in any::<[u16; 3]>(), s in "[a-z]{1,3}") {
        let text = |[x, y, z]: [u16; 3]| format!("v{x}.{y}.{z}");
        prop_assert_eq!(version::compare(&text(a), &text(b)), Some(a.cmp(&b)));
        let suffixed = format!("{}-{s}", text(a));
        prop_assert_eq!(version::compare(&suffixed, &text(a)), Some(Ordering::Less), "a pre-release comes before");
    }

    #[test]
    fn comparing_arbitrary_text_never_panics(a in ".{0,12}", b in ".{0,12}") {
        let there = version::compare(&a, &b);
        prop_assert_eq!(version::compare(&b, &a), there.map(Ordering::reverse));
    }

    #[test]
    fn an_alias_is_known_as_one_and_as_whose_it_is(
        id in "[0-9a-f]{8}", other in "[0-9a-f]{8}",
        model in MODEL_PATTERN.trim_matches(['^', '$']), number in any::<[u8; 3]>(), suffix in "(-[A-Za-z0-9.]{1,8})?",
    ) {
        let [x, y, z] = number;
        let made = alias(&id, &model, &format!("v{x}.{y}.{z}{suffix}"));
        prop_assert!(is_alias(&made) && is_own(&id, &made));
        prop_assert_eq!(is_own(&other, &made), other == id);
        prop_assert!(is_name(&made), "{} is no name to a node", made);
        prop_assert_eq!(made.to_lowercase(), made.clone());
    }

    #[test]
    fn a_pull_token_is_a_namespace_and_its_names_are_hidden(
        id in "[0-9a-f]{8}", other in "[0-9a-f]{8}", secret in "[0-9a-f]{32}", host in prop::option::of("[a-z]{1,5}(:[0-9]{1,5})?/"),
    ) {
        let token = token(&id, &secret);
        let name = format!("{}{token}/bot:1", host.unwrap_or_default());
        prop_assert!(is_name(&name) && token.len() <= 80);
        prop_assert_eq!(token_in(&name), Some(token.as_str()));
        prop_assert!(is_hidden(&name) && !is_alias(&name));
        prop_assert_eq!(is_own_transit(&other, &name), other == id);
    }

    #[test]
    fn what_people_name_is_not_hidden(text in prop_oneof![".{0,20}", "drover-[0-9a-f]{6,9}-?[0-9a-f]{30,34}/?[a-z]{0,3}"]) {
        let is_token = regex("^(.*/)?drover-[0-9a-fA-F]{8}-[0-9a-fA-F]{32}/[^/]*$").is_match(&text);
        prop_assert_eq!(token_in(&text).is_some(), is_token, "{}", text);
        prop_assert_eq!(is_hidden(&text), is_token || is_alias(&text));
    }

    #[test]
    fn nobody_elses_name_is_an_alias(text in prop_oneof![".{0,20}", "drover-[0-9a-z]{0,10}/?[a-z]{0,3}"]) {
        let looks_like_one = regex("^drover-[0-9A-Fa-f]{8}/").is_match(&text);
        prop_assert_eq!(is_alias(&text), looks_like_one);
        prop_assert!(!is_own("00000000", &text) || text.starts_with("drover-00000000/"));
    }
}

#[test]
fn names_are_filled_up_as_ollama_does() {
    let table = [
        ("llama3.2", "registry.ollama.ai/library/llama3.2:latest"),
        ("llama3.2:3b", "registry.ollama.ai/library/llama3.2:3b"),
        ("me/bot", "registry.ollama.ai/me/bot:latest"),
        ("hf.co/me/bot:Q4_K_M", "hf.co/me/bot:Q4_K_M"),
        ("localhost:5000/me/bot", "localhost:5000/me/bot:latest"),
    ];
    for (short, full) in table {
        assert_eq!(short.parse::<ModelName>().map(|name| name.to_string()), Ok(full.into()));
        assert!(ModelName::same(short, full) && regex(model_name::PATTERN).is_match(short), "{short}");
    }
    for bad in ["", ":", "a:", "/a", "a//b", "a/b/c/d", "a b", "-a", "ä", "hf.co/bot", "a:b:c", "../a", "a@sha256:0"] {
        assert!(!is_name(bad) && !regex(model_name::PATTERN).is_match(bad), "{bad:?}");
    }
}

#[test]
fn durations_beyond_all_bounds_are_cut_to_one_that_can_be_written() {
    let read: HumanDuration = "999999999h999999999h".parse().expect("a duration");
    assert_eq!(read.to_string(), "999999999h");
    assert_eq!(HumanDuration(std::time::Duration::MAX).to_string(), "999999999h");
}
