//! What must hold for any bytes that come from outside. The fuzzer calls these for minutes, the property tests briefly.

use bytes::{Bytes, BytesMut};
use drover::domain::gguf::{Fault, Head};
use drover::domain::manifest::Manifest;
use drover::domain::modelfile::{Modelfile, decode};
use drover::gateway::anthropic;
use drover::gateway::fields::Fields;
use drover::gateway::format::{self, Format};
use drover::gateway::lines::Lines;
use drover::gateway::openai::{chat, completions, embeddings, responses};
use drover::gateway::said::Said;
use drover::ollama::lines::lines;
use drover::providers::native::{Translator, Writer};
use drover::providers::sse::Events;
use drover::providers::{anthropic as from_anthropic, openai as from_openai};
use drover::standalone::patch::apply::{Apply, apply};
use drover::standalone::patch::fields::Set;
use drover::standalone::patch::{Manager, Managers, json_patch, merge_patch, strategic_merge};
use drover::standalone::schema::{Schema, duplicates, prune};
use drover::standalone::selector::LabelSelector;
use futures::{FutureExt, StreamExt, stream};
use serde_json::{Value, json};

/// A Modelfile that can be read says the same when it is written and read again.
pub fn modelfile(bytes: &[u8]) {
    let Ok(text) = decode(bytes) else { return };
    match Modelfile::parse(&text) {
        Ok(read) if can_be_written(&read) => {
            let written = read.to_string();
            assert_eq!(Modelfile::parse(&written), Ok(read), "{written:?}");
        }
        Ok(_) => {}
        Err(fault) => {
            let lines = text.matches(['\n', '\r']).count() + 1;
            assert!((1..=lines).contains(&fault.line) && !fault.what.is_empty(), "{fault}");
        }
    }
}

/// No quotes hold a value of several lines one of which ends with the quotes.
fn can_be_written(modelfile: &Modelfile) -> bool {
    let Modelfile { from, adapters, parameters, template, system, licenses, messages, renderer, parser, requires } =
        modelfile;
    let values = [from, adapters, licenses].into_iter().flatten();
    let values = values.chain(parameters.iter().map(|(_, value)| value)).chain(messages.iter().map(|m| &m.content));
    let mut values = values.chain([template, system, renderer, parser, requires].into_iter().flatten());
    values.all(|value| {
        let lines: Vec<&str> = value.split(['\n', '\r']).collect();
        lines[..lines.len() - 1].iter().all(|line| !line.trim_end().ends_with("\"\"\""))
    })
}

/// A head that is complete stays what it is, whatever follows it; one that is not asks for more than there is.
pub fn gguf(bytes: &[u8]) {
    match Head::parse(bytes) {
        Ok(head) => {
            assert!(!head.parameter_size().is_empty() && !head.quantization().is_empty());
            assert_eq!(Head::parse(&[bytes, &[0xff; 9]].concat()), Ok(head));
        }
        Err(Fault::Short(needed)) => assert!(needed > bytes.len() as u64, "{needed} of {}", bytes.len()),
        Err(Fault::Broken(why)) => assert!(!why.is_empty()),
    }
}

/// A manifest that is taken is the same after Ollama's encoding, which is the same every time.
pub fn manifest(bytes: &[u8]) {
    let Ok(Ok(manifest)) = serde_json::from_slice::<Manifest>(bytes).map(Manifest::validate) else { return };
    let encoded = manifest.encode();
    let again: Manifest = serde_json::from_str(&encoded).expect("what was encoded can be read");
    assert_eq!(again, manifest);
    assert_eq!(again.encode(), encoded);
    let sizes: u64 = manifest.blobs().expect("it was validated").values().sum();
    assert!(manifest.size() >= 0 && sizes <= manifest.size().unsigned_abs());
}

/// Lines don't depend on the pieces that they come in, and there is an end to them. The first byte says how big pieces
/// are.
pub fn ndjson(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let read = |size: usize| {
        let pieces: Vec<_> = bytes.chunks(size.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let lines = lines(stream::iter(pieces)).map(|line| format!("{line:?}")).collect::<Vec<_>>();
        lines.now_or_never().expect("nothing to wait for")
    };
    let lines = read(usize::from(*size));
    assert!(lines.len() <= bytes.len());
    assert_eq!(lines, read(bytes.len()));
}

/// A request in another API's format becomes one in Ollama's, or is refused with a reason. The first byte says which.
pub fn request(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    let Ok(fields) = Fields::parse(&Bytes::copy_from_slice(body)) else { return };
    let translated = match which % 5 {
        0 => chat::request::translate(fields),
        1 => completions::translate(fields),
        2 => embeddings::translate(fields),
        3 => responses::request::translate(fields),
        _ => anthropic::request::translate(fields),
    };
    match translated {
        Ok(request) => {
            let written = request.fields.write(&[("options", request.options.write(&[]))]);
            let read: serde_json::Value = serde_json::from_slice(&written).expect("a node gets JSON");
            assert!(read.is_object());
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

/// What a provider says becomes lines of Ollama's that are whole, whatever the pieces that it comes in, and nothing comes
/// after the last one. The first byte says by which API, the second how big the pieces are.
pub fn provider(bytes: &[u8]) {
    let [which, size, body @ ..] = bytes else { return };
    let write = |size: usize| {
        let writer = Writer { model: "m\"".into(), created_at: "now".into(), is_chat: which % 4 < 2 };
        let mut translator: Box<dyn Translator> = match which % 2 {
            0 => Box::new(from_openai::Stream::new(writer)),
            _ => Box::new(from_anthropic::Stream::new(writer)),
        };
        let (mut events, mut all, mut out) = (Events::default(), Vec::new(), Vec::new());
        for piece in body.chunks(size.max(1)) {
            all.extend(events.push(piece).expect("no event is that long"));
        }
        all.extend(events.rest());
        let written = all.iter().try_for_each(|event| translator.event(event, &mut out));
        let failed = written.and_then(|()| translator.end(&mut out)).err();
        assert!(failed.is_none_or(|why| !why.is_empty()));
        out
    };
    let out = write(usize::from(*size));
    assert_eq!(out, write(body.len()));
    let lines: Vec<Value> =
        out.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).expect("JSON")).collect();
    assert!(lines.iter().all(|line| line["model"] == "m\"" && line["done"].is_boolean()));
    let end = lines.iter().position(|line| line["done"] == true);
    assert!(end.is_none_or(|end| end + 1 == lines.len()), "something comes after the end");
}

/// What a node says becomes events that are whole and JSON, whatever the pieces that it comes in. The first byte says
/// in which format, the second how big the pieces are.
pub fn events(bytes: &[u8]) {
    let [which, size, body @ ..] = bytes else { return };
    let format = match which % 4 {
        0 => Format::ChatCompletion { include_usage: true },
        1 => Format::Completion { include_usage: true },
        2 => Format::Response(responses::echo::Echo::of(&Fields::default()).expect("nothing to repeat").into()),
        _ => Format::Message,
    };
    let head = || format::Head { run: "0a".into(), created: 0, model: "m\"".into(), fingerprint: "fp".into() };
    let write = |size: usize| {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for piece in body.chunks(size.max(1)) {
            all.extend(lines.push(Bytes::copy_from_slice(piece)).expect("no line is that long"));
        }
        all.extend(lines.rest());
        let (mut translator, mut out) = (format.translator(head).expect("not Ollama's own"), BytesMut::new());
        let written = all.iter().try_for_each(|line| translator.line(&Said::read(line)?, &mut out));
        match written {
            Ok(()) => drop(translator.end(&mut out)),
            Err(_) => translator.fail(&serde_json::json!({ "error": { "message": "broken" } }), &mut out),
        }
        out
    };
    let out = write(usize::from(*size));
    assert_eq!(out, write(body.len()));
    let out = std::str::from_utf8(&out).expect("events are text");
    assert!(out.is_empty() || out.ends_with("\n\n"));
    for event in out.split_terminator("\n\n") {
        let data = event.split_once("data: ").expect("every event has data").1;
        assert!(data == "[DONE]" || serde_json::from_str::<serde_json::Value>(data).is_ok(), "{data}");
        assert!(!event.contains('\r') && event.matches('\n').count() <= 1, "{event:?}");
    }
    if let Ok(whole) = format.translator(head).expect("not Ollama's own").whole(body) {
        serde_json::from_slice::<serde_json::Value>(&whole).expect("a whole answer is JSON");
    }
}

/// A selector that can be read says the same when it is written and read again, whatever the labels are.
pub fn selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = LabelSelector::parse(text) else { return };
    let written = read.to_string();
    let again = LabelSelector::parse(&written).unwrap_or_else(|failure| panic!("{written:?}: {}", failure.message));
    assert_eq!(again, read, "{written:?}");
    for value in [None, Some(""), Some("a")] {
        assert_eq!(read.allows(|_| value), again.allows(|_| value), "{written:?}");
    }
}

/// An object and a patch, as two JSON values: each way to change the one by the other ends well, and does what it means.
pub fn patch(bytes: &[u8]) {
    assert!(duplicates(bytes).len() <= bytes.len());
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let (Some(Ok(object)), Some(Ok(patch))) = (values.next(), values.next()) else { return };
    let schema = schema();

    let mut once = object.clone();
    merge_patch(&mut once, &patch);
    let mut twice = once.clone();
    merge_patch(&mut twice, &patch);
    assert_eq!(once, twice, "a merge patch that is repeated changes nothing");

    if let Value::Array(steps) = &patch {
        let test = |value: &Value| vec![json!({ "op": "test", "path": "", "value": value })];
        let tested = |first: Vec<Value>| json_patch(&object, Value::Array([first, steps.clone()].concat())).ok();
        assert_eq!(tested(test(&object)), json_patch(&object, patch.clone()).ok());
        assert_eq!(tested(test(&json!([object]))), None, "what fails its test is not changed");
    }

    let unchanged = strategic_merge(&object, &json!({}), Schema::new(&schema));
    assert!(!object.is_object() || unchanged.ok().as_ref() == Some(&object));
    let _ = strategic_merge(&object, &patch, Schema::new(&schema));

    let written = Set::from_json(&patch).to_json();
    assert_eq!(Set::from_json(&written).to_json(), written);
    let mut pruned = patch.clone();
    prune(&mut pruned, Schema::new(&schema));
    assert!(prune(&mut pruned, Schema::new(&schema)).is_empty());
    let manager = Manager { name: "a".into(), applies: true, api_version: "v1".into(), subresource: String::new() };
    let request = Apply { config: &pruned, manager: &manager, force: true, reset: &[], now: "now" };
    assert!(apply(&object, Managers::default(), &request, Schema::new(&schema)).is_ok(), "nobody else has a field");
}

/// A map, an open map, a list known by keys, a set, a list as a whole, and anything.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "a": { "type": "object", "properties": { "b": { "type": "integer" }, "c": { "type": "integer" } } },
            "open": { "type": "object", "additionalProperties": { "type": "integer" } },
            "items": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "x-kubernetes-patch-strategy": "merge",
                "x-kubernetes-patch-merge-key": "k",
                "items": { "type": "object", "properties": { "k": { "type": "string" }, "v": { "type": "integer" } } },
            },
            "set": { "type": "array", "x-kubernetes-list-type": "set", "items": { "type": "string" } },
            "whole": { "type": "array", "items": { "type": "integer" } },
            "any": { "x-kubernetes-preserve-unknown-fields": true },
        },
    })
}
