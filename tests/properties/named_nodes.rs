//! Ollama servers as people name them.

use std::collections::BTreeMap;

use drover::domain::named_nodes::{Changes, Maker, NamedNode, NamedNodes, Server};
use drover::domain::url::is_loopback;
use proptest::{collection::btree_map, prelude::*};

/// What Ollama 0.17.4 makes of its variable (`envconfig.Host`), but that an address of every interface is asked at the
/// machine's own.
const HOSTS: &[(&str, &str)] = &[
    ("", "http://127.0.0.1:11434"),
    (" ", "http://127.0.0.1:11434"),
    ("1.2.3.4", "http://1.2.3.4:11434"),
    ("1.2.3.4:", "http://1.2.3.4:11434"),
    ("1.2.3.4:1234", "http://1.2.3.4:1234"),
    (":1234", "http://127.0.0.1:1234"),
    ("0.0.0.0", "http://127.0.0.1:11434"),
    ("0.0.0.0:1234", "http://127.0.0.1:1234"),
    ("[::1]", "http://[::1]:11434"),
    ("[::]", "http://[::1]:11434"),
    ("[::1]:1337", "http://[::1]:1337"),
    ("::1", "http://[::1]:11434"),
    ("\"1.2.3.4\"", "http://1.2.3.4:11434"),
    ("'1.2.3.4:1'", "http://1.2.3.4:1"),
    (" example.com ", "http://example.com:11434"),
    ("example.com:1234", "http://example.com:1234"),
    ("example.com/ollama", "http://example.com:11434/ollama"),
    ("http://1.2.3.4", "http://1.2.3.4:80"),
    ("http://1.2.3.4:4321/", "http://1.2.3.4:4321"),
    ("https://1.2.3.4", "https://1.2.3.4:443"),
    ("https://example.com/ollama/", "https://example.com:443/ollama"),
    ("https://example.com:4321/ollama", "https://example.com:4321/ollama"),
    ("ollama.com", "https://ollama.com:443"),
];
const NO_PORTS: &[(&str, &str)] = &[
    ("1.2.3.4:66000", "http://1.2.3.4:11434"),
    ("1.2.3.4:-1", "http://1.2.3.4:11434"),
    ("example.com:x", "http://example.com:11434"),
    ("https://example.com:x", "https://example.com:443"),
];

#[test]
fn ollamas_variable_means_what_it_means_to_ollama() {
    for (text, url) in HOSTS {
        let server = Server::parse(text).unwrap_or_else(|| panic!("{text:?} is taken"));
        assert_eq!(server.url, *url, "{text:?}");
    }
    for (text, url) in NO_PORTS {
        assert_eq!(Server::parse(text), Some(Server { url: (*url).into(), has_good_port: false }), "{text:?}");
    }
    for text in ["http://user:password@host", "ftp://host", "a b", "host/?query", "-", "[::1", "http://[nonsense]:1"] {
        assert_eq!(Server::parse(text), None, "{text:?}");
    }
}

#[test]
fn nodes_are_named_once_and_as_objects_may_be() {
    let nodes: NamedNodes = "gpu-1=10.0.0.7, b.c=http://host:1 ,".parse().expect("two nodes");
    let node = |name: &str, url: &str| NamedNode { name: name.into(), url: url.into() };
    let expected = [node("gpu-1", "http://10.0.0.7:11434"), node("b.c", "http://host:1")];
    let apply = nodes.changes("", false, &BTreeMap::new()).apply;
    assert_eq!(apply.into_iter().map(|(node, _)| node).collect::<Vec<_>>(), expected);
    for text in ["a", "a=", "=b", "a=b,a=c", "A=b", "a_b=c", "-a=b", "a..b=c", "a=b:x", "a=http://u:p@b"] {
        assert!(text.parse::<NamedNodes>().is_err(), "{text:?}");
    }
}

#[test]
fn loopback_addresses_are_told_from_others() {
    for url in ["http://127.0.0.1:1", "https://127.1.2.3", "http://localhost/x", "http://[::1]:1", "http://LOCALHOST:1"]
    {
        assert!(is_loopback(url), "{url}");
    }
    for url in ["http://10.0.0.1:1", "http://localhost.example", "http://[::2]:1", "http://127.0.0.1.example", ""] {
        assert!(!is_loopback(url), "{url}");
    }
}

fn maker() -> impl Strategy<Value = Maker> {
    prop_oneof![Just(Maker::Named), Just(Maker::Other)]
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic_and_what_is_read_is_read_again_the_same(text in ".{0,40}") {
        drop(text.parse::<NamedNodes>());
        if let Some(server) = Server::parse(&text) {
            let again = Server::parse(&server.url).expect("a URL");
            prop_assert_eq!(again.url, server.url);
        }
    }

    #[test]
    fn others_nodes_are_never_deleted_and_named_ones_are_there_afterwards(
        named in btree_map("[a-d]", Just("http://h:1"), 0..4),
        there in btree_map("[a-d]|local", maker(), 0..5),
        asked_for in any::<bool>(),
    ) {
        let text: Vec<String> = named.iter().map(|(name, url)| format!("{name}={url}")).collect();
        let nodes: NamedNodes = text.join(",").parse().expect("nodes");
        let Changes { apply, delete } = nodes.changes("http://usual:1", asked_for, &there);
        let applied: Vec<&str> = apply.iter().map(|(node, _)| node.name.as_str()).collect();
        for name in &delete {
            prop_assert_eq!(there.get(name), Some(&Maker::Named));
            prop_assert!(!applied.contains(&name.as_str()));
        }
        for (node, maker) in &apply {
            prop_assert_eq!(*maker, there.get(&node.name).copied().unwrap_or(Maker::Named), "a maker stays");
        }
        if named.is_empty() {
            let others = there.values().any(|maker| *maker == Maker::Other);
            let stays = there.get("local") == Some(&Maker::Named);
            let expected: &[&str] = if asked_for || stays || !others { &["local"] } else { &[] };
            prop_assert_eq!(applied, expected);
        } else {
            prop_assert_eq!(applied, named.keys().map(String::as_str).collect::<Vec<_>>());
        }
        // What an earlier start named and this one doesn't is gone.
        let mut left = there.iter().filter(|(name, maker)| **maker == Maker::Named && !delete.contains(name));
        prop_assert!(left.all(|(name, _)| apply.iter().any(|(node, _)| node.name == *name)));
    }
}
