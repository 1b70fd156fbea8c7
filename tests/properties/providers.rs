//! Providers: whose key goes where, which case each one is, what can be said to them and what it costs.

use std::collections::BTreeMap;

use drover::domain::provider::{
    CATALOGUE, Endpoint, KeySource, Origin, Present, Price, Protocol, changes, counterpart, has_counterpart, known_at,
    origin, provider_of, tag,
};
use proptest::{collection::btree_map, prelude::*, sample::select};

/// Options of Ollama's that neither API has anything like.
const OF_NODES_ALONE: [&str; 7] =
    ["num_ctx", "num_gpu", "num_batch", "num_keep", "repeat_last_n", "use_mmap", "typical_p"];

fn url() -> impl Strategy<Value = String> {
    let known = select(CATALOGUE.iter().map(|known| known.url.to_owned()).collect::<Vec<_>>());
    prop_oneof![
        known.clone(),
        known.clone().prop_map(|url| format!("{url}/")),
        known.clone().prop_map(|url| format!("{url}.example.com")),
        known.clone().prop_map(|url| url.replace("https://", "http://")),
        known.prop_map(|url| format!("https://example.com/{url}")),
        "https?://[a-z]{1,8}(:[0-9]{2,4})?(/[a-z0-9]{1,4}){0,2}",
    ]
}

fn source() -> impl Strategy<Value = Option<(String, String)>> {
    proptest::option::of(("[a-z]{1,8}", "[a-z-]{1,8}"))
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let protocol = select(vec![Protocol::OpenAI, Protocol::Anthropic]);
    let extra = proptest::collection::vec(select(vec!["top_k", "min_p", "num_ctx"]), 0..3);
    (protocol, url(), extra).prop_map(|(protocol, url, extra)| Endpoint {
        protocol,
        url,
        extra_options: extra.into_iter().map(str::to_owned).collect(),
        ..Endpoint::default()
    })
}

fn there() -> impl Strategy<Value = BTreeMap<String, Present>> {
    let name =
        prop_oneof![select(CATALOGUE.iter().map(|known| known.name.to_owned()).collect::<Vec<_>>()), "[a-z]{1,4}"];
    btree_map(name, (url(), any::<bool>()).prop_map(|(url, is_own)| Present { url, is_own }), 0..6)
}

#[test]
fn the_catalogue_names_each_provider_once() {
    for (index, known) in CATALOGUE.iter().enumerate() {
        let others = &CATALOGUE[index + 1..];
        assert!(
            others
                .iter()
                .all(|other| (other.name, other.url, other.variable) != (known.name, known.url, known.variable))
        );
        assert!(others.iter().all(|other| other.name != known.name && other.url != known.url), "{}", known.name);
        assert!(known.url.starts_with("https://") && !known.url.ends_with('/'), "{}", known.url);
    }
}

proptest! {
    /// A key of the environment goes to the very server that it is for, whatever an object says.
    #[test]
    fn a_key_of_the_environment_goes_to_its_own_server_only(url in url(), secret in source()) {
        let named = secret.as_ref().map(|(name, key)| (name.as_str(), key.as_str()));
        match KeySource::of(named, &url) {
            KeySource::Environment(variable) => {
                let known = CATALOGUE.iter().find(|known| known.variable == variable).unwrap();
                prop_assert_eq!(url.trim_end_matches('/'), known.url);
                prop_assert!(secret.is_none());
            }
            KeySource::Secret { name, key } => prop_assert_eq!(Some((name, key)), secret),
            KeySource::None => prop_assert!(secret.is_none() && known_at(&url).is_none()),
        }
    }

    /// Each provider is one of the five cases, by three questions alone.
    #[test]
    fn the_five_cases_are_told_apart(url in url(), secret in source(), by_user: bool, has_key: bool) {
        let named = secret.as_ref().map(|(name, key)| (name.as_str(), key.as_str()));
        let expected = match (known_at(&url).is_some(), secret.is_some(), has_key, by_user) {
            (false, ..) => Origin::Custom,
            (true, true, ..) => Origin::Declared,
            (true, false, true, true) => Origin::FromEnvironment,
            (true, false, true, false) => Origin::CataloguedWithKey,
            (true, false, false, _) => Origin::CataloguedWithoutKey,
        };
        prop_assert_eq!(origin(&url, &KeySource::of(named, &url), by_user, has_key), expected);
    }

    /// What somebody else made is left alone, what has no key goes, and doing it twice does nothing more.
    #[test]
    fn objects_follow_the_keys_in_the_environment(there in there(), keys in proptest::collection::vec(any::<bool>(), CATALOGUE.len())) {
        let has_key = |variable: &str| CATALOGUE.iter().zip(&keys).any(|(known, has)| *has && known.variable == variable);
        let first = changes(has_key, &there);
        for name in &first.delete {
            prop_assert!(there[name].is_own, "{} is somebody else's", name);
        }
        for known in &first.apply {
            prop_assert!(has_key(known.variable));
            prop_assert!(there.get(known.name).is_none_or(|present| present.is_own), "{} is somebody else's", known.name);
        }
        let mut after = there;
        first.delete.iter().for_each(|name| drop(after.remove(name)));
        for known in &first.apply {
            after.insert(known.name.into(), Present { url: known.url.into(), is_own: true });
        }
        let second = changes(has_key, &after);
        prop_assert!(second.delete.is_empty(), "{:?}", second.delete);
        prop_assert_eq!(second.apply, first.apply);
    }

    /// What only a node can do is never said to a provider, unless its object says that it can; what Ollama doesn't know is
    /// the provider's own and passes as it is.
    #[test]
    fn options_are_translated_or_dropped(endpoint in endpoint(), own in "[a-z]{3,9}_x") {
        for option in OF_NODES_ALONE {
            let is_extra = endpoint.extra_options.iter().any(|extra| extra == option);
            prop_assert_eq!(has_counterpart(&endpoint, option), is_extra, "{}", option);
        }
        prop_assert_eq!(counterpart(&endpoint, &own), Some(own.as_str()));
        for option in ["temperature", "top_p", "num_predict", "stop"] {
            prop_assert!(has_counterpart(&endpoint, option));
        }
        let names = ["temperature", "top_p", "top_k", "num_predict", "stop", "seed"].map(|name| counterpart(&endpoint, name));
        let known: Vec<_> = names.iter().flatten().collect();
        let different: std::collections::BTreeSet<_> = known.iter().collect();
        prop_assert_eq!(known.len(), different.len(), "two options under one name");
    }

    /// Twice the tokens cost twice as much, and nothing is cheaper than nothing.
    #[test]
    fn costs_grow_with_tokens(input in 0.0..1e3, output in 0.0..1e3, read in 0u64..1 << 40, written in 0u64..1 << 40) {
        let price = Price { input_per_million: input, output_per_million: output };
        let (once, twice) = (price.of(read, written).amount, price.of(2 * read, 2 * written).amount);
        prop_assert!(once >= 0.0 && (twice - 2.0 * once).abs() <= 1e-9 * twice.max(1.0));
        prop_assert!(price.of(read + 1, written).amount >= once && price.of(read, written + 1).amount >= once);
        prop_assert_eq!(price.of(0, 0).amount, 0.0);
    }

    /// A model's name in requests says which provider and which model.
    #[test]
    fn names_can_be_taken_apart(provider in "[a-z][a-z0-9-]{0,9}", model in "[A-Za-z0-9:./_-]{1,40}") {
        let name = tag(&provider, &model);
        prop_assert_eq!(name.strip_prefix("provider/").and_then(|rest| rest.split_once('/')), Some((&*provider, &*model)));
        prop_assert_eq!(provider_of(&name), provider);
        prop_assert_eq!(provider_of(&model), "ollama", "a plain tag names nobody");
    }
}
