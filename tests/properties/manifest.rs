//! Manifests: what is read of any bytes, and the bytes that Ollama would make of it.

use drover::{
    domain::manifest::{DOCKER_MANIFEST, Layer, Manifest, OCI_MANIFEST},
    mirror::{parse, sha256},
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

fn digest() -> impl Strategy<Value = String> {
    any::<[u8; 4]>().prop_map(|seed| sha256(&seed).to_string())
}

fn layer() -> impl Strategy<Value = Layer> {
    let kind = prop_oneof!["application/vnd\\.ollama\\.image\\.[a-z]{1,9}", ".{0,20}"];
    (kind, digest(), 0..i64::from(u32::MAX), "\\PC{0,9}", "[a-z<>&\"\\\\\u{0}-\u{20}\u{2028}é]{0,9}")
        .prop_map(|(media_type, digest, size, from, name)| Layer { media_type, digest, size, from, name })
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let kinds = prop_oneof![Just(""), Just(DOCKER_MANIFEST), Just(OCI_MANIFEST)];
    (layer(), vec(layer(), 0..5), kinds).prop_map(|(config, mut layers, kind)| {
        layers.push(Layer { media_type: "application/vnd.ollama.image.model".into(), ..config.clone() });
        let mut manifest = Manifest::new(config, layers);
        manifest.media_type = kind.into();
        manifest
    })
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in vec(any::<u8>(), 0..200), text in ".{0,80}") {
        drop(parse(&bytes));
        drop(parse(text.as_bytes()));
    }

    #[test]
    fn no_json_makes_reading_panic(
        version in any::<i64>(), size in any::<i64>(), digest in "(sha256:)?[0-9a-fA-F]{0,65}", kind in ".{0,9}",
    ) {
        let layer = json!({"mediaType": kind, "digest": digest, "size": size});
        let bytes = json!({"schemaVersion": version, "config": layer, "layers": [layer, null]}).to_string();
        drop(parse(bytes.as_bytes()));
    }

    #[test]
    fn what_is_encoded_is_read_as_the_same_and_encoded_the_same(manifest in manifest()) {
        let Ok(manifest) = manifest.validate() else { return Ok(()) }; // one digest with two sizes
        let text = manifest.encode();
        prop_assert_eq!(parse(text.as_bytes()), Ok(manifest));
        prop_assert_eq!(parse(text.as_bytes()).map(|read| read.encode()), Ok(text));
    }

    #[test]
    fn the_form_is_that_of_ollama_whatever_order_or_space_it_came_in(manifest in manifest(), pretty in any::<bool>()) {
        let mut value: Value = serde_json::to_value(&manifest).expect("JSON");
        value["annotations"] = json!({"a": "b"});
        value.sort_all_objects();
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let read = parse(text.expect("JSON").as_bytes());
        prop_assert_eq!(read.clone().map(|read| read.encode()), read.map(|_| manifest.encode()));
    }

    #[test]
    fn nothing_that_a_node_could_not_use_is_accepted(manifest in manifest(), choice in 0..6usize) {
        prop_assume!(manifest.clone().validate().is_ok());
        let mut value = serde_json::to_value(&manifest).expect("JSON");
        match choice {
            0 => value["schemaVersion"] = json!(1),
            1 => value["mediaType"] = json!("application/json"),
            2 => value["layers"] = json!([]),
            3 => value["layers"][0]["digest"] = json!("sha256:0"),
            4 => value["config"]["size"] = json!(-1),
            _ => value["manifests"] = json!([{"digest": "x"}]),
        }
        prop_assert!(parse(value.to_string().as_bytes()).is_err(), "{}", value);
    }

    #[test]
    fn the_size_is_that_of_all_layers(manifest in manifest()) {
        let sum: i64 = manifest.layers.iter().map(|layer| layer.size).sum();
        prop_assert_eq!(manifest.size(), sum + manifest.config.size);
    }
}

#[test]
fn strings_are_written_as_go_writes_them() {
    let name = "<a href=\"x\">&\u{8}\u{c}\n\r\t\u{1}\u{7f}\u{2028}é\\";
    let layer = Layer { name: name.into(), ..Layer::default() };
    let text = Manifest::new(Layer::default(), vec![layer]).encode();
    let expected = r#""name":"\u003ca href=\"x\"\u003e\u0026\b\f\n\r\t\u0001"#.to_owned() + "\u{7f}\\u2028é\\\\\"}]}";
    assert!(text.ends_with(&expected), "{text}");
    let start = r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"","digest":"","size":0},"layers":[{"mediaType":"#;
    assert!(text.starts_with(start), "{text}");
}
