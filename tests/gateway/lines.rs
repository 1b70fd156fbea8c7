//! Lines and names, whatever the chunks.

use bytes::{Bytes, BytesMut};
use drover::{
    gateway::{
        fields::Fields,
        format::{Format, Head, Translator},
        lines::{Lines, Renamer},
        said::Said,
    },
    ports::NodeError,
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

const CALLED: &str = "drover-0a1b2c3d/bot:v1";
const TAG: &str = "llama3.2:3b";

/// Cuts `text` at these places.
fn chunks(text: &[u8], cuts: &[prop::sample::Index]) -> Vec<Bytes> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| Bytes::copy_from_slice(&text[pair[0]..pair[1]])).collect()
}

fn lines(chunks: Vec<Bytes>) -> Vec<Bytes> {
    let mut lines = Lines::default();
    let mut all: Vec<Bytes> = chunks.into_iter().flat_map(|chunk| lines.push(chunk).unwrap()).collect();
    all.extend(lines.rest());
    all
}

fn rename(lines: &[Bytes]) -> Result<Vec<u8>, NodeError> {
    let (renamer, mut out) = (Renamer::new(CALLED, TAG), BytesMut::new());
    for line in lines {
        renamer.object(line, &mut out)?;
        out.extend_from_slice(b"\n");
    }
    Ok(out.to_vec())
}

/// Who writes a stream of chat completions.
fn events() -> Box<dyn Translator> {
    let head = || Head { run: "1".into(), created: 0, model: TAG.into(), fingerprint: String::new() };
    Format::ChatCompletion { include_usage: false }.translator(head).unwrap()
}

/// One line as Ollama, or something like it, writes it.
fn line() -> impl Strategy<Value = String> {
    let model = prop_oneof![Just(CALLED.to_owned()), Just("other".to_owned()), ".{0,12}"];
    (model, "\\PC{0,30}", any::<bool>(), 0..3u8).prop_map(|(model, content, done, shape)| {
        let message = json!({ "role": "assistant", "content": content });
        match shape {
            0 => json!({ "model": model, "message": message, "done": done }).to_string(),
            1 => json!({ "done": done, "message": message, "model": model }).to_string(),
            _ => format!("{{ \"model\" : {} , \"message\": {message} }}", json!(model)),
        }
    })
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_lines(
        written in vec(line(), 0..6), cuts in vec(any::<prop::sample::Index>(), 0..20), ended in any::<bool>(),
    ) {
        let text = written.join("\n") + if ended { "\n" } else { "" };
        let wanted: Vec<Bytes> = written.iter().cloned().map(Bytes::from).collect();
        prop_assert_eq!(lines(chunks(text.as_bytes(), &cuts)), wanted);
    }

    #[test]
    fn every_line_names_the_tag_and_is_otherwise_the_same(written in vec(line(), 0..6)) {
        let lines: Vec<Bytes> = written.iter().cloned().map(Bytes::from).collect();
        let renamed = String::from_utf8(rename(&lines).unwrap()).unwrap();
        let values = |text: &str| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
        let mut wanted: Vec<Value> = written.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        wanted.iter_mut().for_each(|line| line["model"] = TAG.into());
        prop_assert_eq!(values(&renamed), wanted);
    }

    #[test]
    fn any_bytes_are_lines_or_errors(chunks in vec(vec(any::<u8>(), 0..40), 0..8)) {
        let lines = lines(chunks.iter().cloned().map(Bytes::from).collect());
        let _ = rename(&lines);
        let mut events = events();
        let _ = lines.iter().try_for_each(|line| events.line(&Said::read(line)?, &mut BytesMut::new()));
    }

    #[test]
    fn a_streams_pieces_make_the_whole_content(contents in vec("\\PC{0,20}", 0..6)) {
        let (mut events, mut out) = (events(), BytesMut::new());
        for content in &contents {
            let line = json!({ "model": CALLED, "message": { "content": content }, "done": false });
            events.line(&Said::read(line.to_string().as_bytes()).unwrap(), &mut out).unwrap();
        }
        prop_assert!(!events.end(&mut BytesMut::new()), "not done yet");
        let last = Said::read(br#"{"message":{"content":""},"done":true}"#).unwrap();
        events.line(&last, &mut out).unwrap();
        prop_assert!(events.end(&mut out));
        let text = String::from_utf8(out.to_vec()).unwrap();
        let parts = text.split("\n\n").filter_map(|event| serde_json::from_str::<Value>(event.strip_prefix("data: ")?).ok());
        let said: String =
            parts.filter_map(|part| part["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect();
        prop_assert_eq!(said, contents.concat());
    }

    #[test]
    fn fields_keep_every_value_and_bad_json_is_refused(
        entries in prop::collection::btree_map("[a-z_]{1,6}", "\\PC{0,20}", 0..6), cut in any::<prop::sample::Index>(),
    ) {
        let text = serde_json::to_string(&entries).unwrap();
        let fields = Fields::parse(&text.clone().into()).unwrap();
        let written: std::collections::BTreeMap<String, String> = serde_json::from_slice(&fields.write(&[])).unwrap();
        prop_assert_eq!(written, entries);
        let short = Bytes::copy_from_slice(&text.as_bytes()[..cut.index(text.len())]);
        prop_assert!(Fields::parse(&short).is_err());
    }
}

#[test]
fn errors_are_errors_in_any_form_and_never_name_the_alias() {
    let error = |line: String| rename(&[line.into()]).unwrap_err();
    let status = |message: &str| NodeError::Status { status: 500, message: message.into() };
    assert_eq!(error(json!({ "error": format!("{CALLED} is gone") }).to_string()), status("llama3.2:3b is gone"));
    assert_eq!(
        error(json!({ "done": true, "error": { "message": CALLED } }).to_string()),
        status("{\"message\":\"llama3.2:3b\"}")
    );
    assert_eq!(error("[]".into()), NodeError::Broken("the answer is not JSON".into()));
}
