//! What comes from outside: Modelfiles, GGUF files, manifests and lines of nodes, sound ones and any others.

use drover::domain::alias;
use drover::domain::gguf::{Fault, Head, Kind};
use drover::domain::modelfile::{Message, Modelfile, decode};
use proptest::{collection::vec, option, prelude::*, sample::Index};

use crate::fuzz;

/// Something that takes bytes, and bytes that it takes.
type Sound = (fn(&[u8]), &'static [u8]);

const SOUND: [Sound; 18] = [
    (fuzz::modelfile, include_bytes!("../fuzz/seeds/modelfile/all")),
    (fuzz::gguf, include_bytes!("../fuzz/seeds/gguf/small")),
    (fuzz::manifest, include_bytes!("../fuzz/seeds/manifest/own")),
    (fuzz::ndjson, include_bytes!("../fuzz/seeds/ndjson/pull")),
    (fuzz::selector, include_bytes!("../fuzz/seeds/selector/all")),
    (fuzz::patch, include_bytes!("../fuzz/seeds/patch/steps")),
    (fuzz::request, include_bytes!("../fuzz/seeds/request/chat")),
    (fuzz::request, include_bytes!("../fuzz/seeds/request/completion")),
    (fuzz::request, include_bytes!("../fuzz/seeds/request/embedding")),
    (fuzz::request, include_bytes!("../fuzz/seeds/request/response")),
    (fuzz::request, include_bytes!("../fuzz/seeds/request/message")),
    (fuzz::events, include_bytes!("../fuzz/seeds/events/stream-0")),
    (fuzz::events, include_bytes!("../fuzz/seeds/events/stream-1")),
    (fuzz::events, include_bytes!("../fuzz/seeds/events/stream-2")),
    (fuzz::events, include_bytes!("../fuzz/seeds/events/stream-3")),
    (fuzz::events, include_bytes!("../fuzz/seeds/events/generate")),
    (fuzz::provider, include_bytes!("../fuzz/seeds/provider/openai")),
    (fuzz::provider, include_bytes!("../fuzz/seeds/provider/anthropic")),
];

/// A sound input with a few bytes changed, cut out or put in.
fn spoilt(seed: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    vec((any::<Index>(), 0..3u8, vec(any::<u8>(), 1..4)), 0..6).prop_map(move |changes| {
        let mut bytes = seed.to_vec();
        for (at, kind, new) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + if kind == 0 { 0 } else { new.len() }).min(bytes.len());
            bytes.splice(at..end, if kind == 1 { Vec::new() } else { new });
        }
        bytes
    })
}

/// Text as people write it into values, with all that needs quotes.
fn value() -> impl Strategy<Value = String> {
    vec(prop_oneof!["[a-z0-9.:/-]{1,6}", "[ \t\n\r\"'{}#é漢🦙]", Just("FROM".into()), Just("\u{301}".into())], 0..8)
        .prop_map(|parts| parts.concat())
}

fn modelfiles() -> impl Strategy<Value = Modelfile> {
    let role = prop_oneof![Just("system"), Just("user"), Just("assistant")];
    let message = (role, value()).prop_map(|(role, content)| Message { role: role.into(), content });
    let many = || vec(value(), 0..3);
    let lists = (vec(value(), 1..3), many(), vec(("[a-z_0-9]{1,9}", value()), 0..4), many(), vec(message, 0..3));
    let single = (option::of(value()), option::of(value()), option::of(value()), option::of(value()));
    let requires = option::of("[0-9]{1,2}\\.[0-9]{1,2}\\.[0-9]{1,2}");
    (lists, single, requires).prop_map(|(lists, single, requires)| {
        let (from, adapters, parameters, licenses, messages) = lists;
        let (template, system, renderer, parser) = single;
        let requires = requires.filter(|version: &String| version.parse::<semver::Version>().is_ok());
        Modelfile { from, adapters, parameters, template, system, licenses, messages, renderer, parser, requires }
    })
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        SOUND.iter().for_each(|(body, _)| body(&bytes));
    }

    #[test]
    fn spoilt_inputs_are_taken_or_refused(inputs in Vec::from(SOUND.map(|(_, seed)| spoilt(seed)))) {
        SOUND.iter().zip(&inputs).for_each(|((body, _), input)| body(input));
    }

    #[test]
    fn any_text_is_a_selector_or_not(text in "[ab!=,() \\t-]{0,24}( (in|notin) )?[ab,()=! é]{0,12}") {
        fuzz::selector(text.as_bytes());
    }

    #[test]
    fn any_text_is_a_modelfile_or_not(text in "(FROM|SYSTEM|PARAMETER|MESSAGE|#|x)[ a-z\"\n\r\t\\PC]{0,60}") {
        fuzz::modelfile(text.as_bytes());
    }

    #[test]
    fn a_modelfile_means_the_same_after_it_was_written(modelfile in modelfiles()) {
        fuzz::modelfile(modelfile.to_string().as_bytes());
        let ends_early = |text: &str| text.split(['\n', '\r']).any(|line| line.trim_end().ends_with("\"\"\""));
        let written = modelfile.to_string();
        let is_plain = !modelfile.messages.iter().map(|m| &m.content).chain(&modelfile.from).any(|text| ends_early(text));
        if is_plain && !format!("{modelfile:?}").contains("\\\"\\\"\\\"") {
            prop_assert_eq!(Modelfile::parse(&written), Ok(modelfile), "{}", written);
        }
    }

    #[test]
    fn text_survives_each_encoding(text in "\\PC{1,20}") {
        let utf16: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = [0xff, 0xfe].into_iter().chain(utf16.iter().flat_map(|unit| unit.to_le_bytes())).collect();
        let big: Vec<u8> = [0xfe, 0xff].into_iter().chain(utf16.iter().flat_map(|unit| unit.to_be_bytes())).collect();
        let marked = [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat();
        for bytes in [little, big, marked, text.clone().into_bytes()] {
            prop_assert_eq!(decode(&bytes), Ok(text.clone()));
        }
    }

    #[test]
    fn a_head_says_what_was_written(
        architecture in "[a-z0-9]{1,8}", file_type in 0..40u32, context in any::<u32>(), shapes in vec(vec(0..5000u64, 0..4), 0..6),
        cut in any::<Index>(), adapter: bool,
    ) {
        let bytes = gguf(&architecture, file_type, context, &shapes, adapter);
        let head = Head::parse(&bytes).expect("a sound head");
        prop_assert_eq!(&head.architecture, &architecture);
        prop_assert_eq!((head.file_type, head.context_length), (Some(file_type), Some(context)));
        prop_assert_eq!(head.parameters, shapes.iter().map(|shape| shape.iter().product::<u64>()).sum::<u64>());
        prop_assert_eq!(head.kind, if adapter { Kind::Adapter } else { Kind::Model });
        prop_assert!(!head.has_chat_template);
        let part = &bytes[..cut.index(bytes.len())];
        prop_assert!(matches!(Head::parse(part), Err(Fault::Short(needed)) if needed <= bytes.len() as u64));
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// The head of a file with these tensors.
fn gguf(architecture: &str, file_type: u32, context: u32, shapes: &[Vec<u64>], adapter: bool) -> Vec<u8> {
    const NUMBER: [u8; 4] = 4u32.to_le_bytes();
    const TEXT: [u8; 4] = 8u32.to_le_bytes();
    let number = |key: &str, value: u32| [text(key), NUMBER.to_vec(), value.to_le_bytes().to_vec()].concat();
    let string = |key: &str, value: &str| [text(key), TEXT.to_vec(), text(value)].concat();
    let counts = [shapes.len() as u64, 5].map(u64::to_le_bytes).concat();
    let kind = if adapter { "adapter" } else { "model" };
    let tokens = [
        text("tokenizer.ggml.tokens"),
        [9u32, 8].map(u32::to_le_bytes).concat(),
        1u64.to_le_bytes().to_vec(),
        text("x"),
    ];
    let mut bytes = [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), counts, tokens.concat()].concat();
    bytes.extend(number(&format!("{architecture}.context_length"), context));
    bytes.extend(string("general.architecture", architecture));
    bytes.extend([number("general.file_type", file_type), string("general.type", kind)].concat());
    for shape in shapes {
        bytes.extend([text("t"), (shape.len() as u32).to_le_bytes().to_vec()].concat());
        shape.iter().for_each(|length| bytes.extend(length.to_le_bytes()));
        bytes.extend([0u32.to_le_bytes().to_vec(), 0u64.to_le_bytes().to_vec()].concat());
    }
    bytes
}

#[test]
fn modelfiles_are_read_as_ollama_reads_them() {
    let read = |text: &str| Modelfile::parse(text).unwrap_or_else(|fault| panic!("{text:?}: {fault}"));
    let system = |text: &str| read(&format!("FROM x\nSYSTEM {text}\n")).system.expect("a system prompt");
    for (text, expected) in [
        ("plain words  ", "plain words"),
        ("\"one\"", "one"),
        ("\"two\nlines\"", "two\nlines"),
        ("\"\"\"with \"quotes\" inside\n\n\"\"\"", "with \"quotes\" inside\n\n"),
        ("\"\"\"\"\"\"", ""),
        ("\"not the end\" yet\nbut here\"", "not the end\" yet\nbut here"),
        ("it's \"quoted\" inside", "it's \"quoted\" inside"),
        ("# no comment here", "# no comment here"),
        ("a\u{7}b\u{200d}c", "abc"),
    ] {
        assert_eq!(system(text), expected, "{text:?}");
    }
    let all = read("\u{20}from ./a.gguf\r\nFrom ./b.gguf\r\n  # comment\r\nrequires v0.14\nparameter stop a b\n");
    assert_eq!((all.from, all.requires.as_deref()), (vec!["./a.gguf".into(), "./b.gguf".into()], Some("0.14")));
    assert_eq!(all.parameters, [("stop".to_owned(), "a b".to_owned())]);
    for (text, line, what) in [
        ("", 1, "no FROM"),
        ("# only\n\nSYSTEM x\n", 4, "no FROM"),
        ("FROM x\n\nBAKE y\n", 3, "BAKE is no command"),
        ("FROM\nSYSTEM x\n", 1, "no command with a value"),
        ("FROM x\r\nMESSAGE robot hi\r\n", 2, "user or assistant"),
        ("FROM x\nPARAMETER  top_k 3\n", 2, "one space"),
        ("FROM x\nSYSTEM \"\"\"open\nand on\n", 2, "never closed"),
        ("FROM x\nREQUIRES soon\n", 2, "0.14.0"),
    ] {
        let fault = Modelfile::parse(text).expect_err(text);
        assert!(fault.line == line && fault.what.contains(what), "{text:?}: {fault}");
    }
}

#[test]
fn sizes_and_quantizations_are_shown_as_ollama_shows_them() {
    let size = |parameters| Head { parameters, ..Head::default() }.parameter_size();
    for (parameters, expected) in [
        (0, "0"),
        (999, "999"),
        (82_400, "82K"),
        (1_000_000, "1M"),
        (137_530_000, "137.53M"),
        (8_030_261_312, "8.0B"),
        (70_000_000_000, "70B"),
    ] {
        assert_eq!(size(parameters), expected);
    }
    let quantization = |file_type| Head { file_type, ..Head::default() }.quantization();
    assert_eq!(
        [Some(15), Some(1), Some(0), Some(99), None].map(quantization),
        ["Q4_K_M", "F16", "unknown", "unknown", "unknown"]
    );
}

#[test]
fn no_count_of_a_file_is_believed() {
    let huge = |kind: u32, count: u64| {
        let value = [9u32.to_le_bytes(), kind.to_le_bytes()].concat();
        let counts = [0u64, u64::MAX].map(u64::to_le_bytes).concat();
        [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), counts, text("k"), value, count.to_le_bytes().to_vec()].concat()
    };
    for (kind, count) in [(8, u64::MAX), (4, u64::MAX), (10, u64::MAX / 8), (0, 1 << 60), (9, 1)] {
        assert!(Head::parse(&huge(kind, count)).is_err());
    }
    assert_eq!(
        Head::parse(b"GGUF\x00\x00\x00\x03"),
        Err(Fault::Broken("it is written for big-endian machines".into()))
    );
    assert!(matches!(Head::parse(b"GGML...."), Err(Fault::Broken(_))));
}

#[test]
fn only_names_of_drovers_own_are_reserved() {
    assert!(alias::is_reserved("drover-0123abcd") && alias::is_reserved("Drover-x"));
    assert!(!alias::is_reserved("drover") && !alias::is_reserved("team") && !alias::is_reserved("dröver-"));
}
