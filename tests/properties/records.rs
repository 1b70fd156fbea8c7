//! A run's record is written as serde would write it, whatever is in it.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use drover::{
    domain::{
        digest::Digest,
        params::Source,
        provider::Cost,
        run_id::RunId,
        run_record::{
            Attempt, Capture, Effective, Feedback, Outcome, Resolved, Session, SystemPrompt, Timings, Tokens,
        },
    },
    ports::RunRecord,
    records::json::write,
};
use jiff::Timestamp;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

/// Any text, often one that JSON has to escape.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ -~]{0,12}", "[\"\\\\\\n\\x00-\\x1f\u{7f}é]{0,6}"]
}

fn name() -> impl Strategy<Value = Arc<str>> {
    text().prop_map(Into::into)
}

fn outcome() -> impl Strategy<Value = Outcome> {
    select(&Outcome::ALL[..])
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        text().prop_map(Value::from),
        vec(text(), 0..3).prop_map(Value::from),
    ]
}

fn effective() -> impl Strategy<Value = Effective<Value>> {
    let source = select(&[Source::Request, Source::Version, Source::Node][..]);
    (value(), source).prop_map(|(value, source)| Effective { value, source })
}

fn resolved() -> impl Strategy<Value = Resolved> {
    (name(), name(), option::of(name()), option::of(name()), option::of(name()), name()).prop_map(
        |(model, digest, version, deployment, node, reason)| Resolved {
            model,
            digest,
            version,
            deployment,
            node,
            reason,
        },
    )
}

fn timings() -> impl Strategy<Value = Timings> {
    let ms = || 0.0..1e9_f64;
    (ms(), ms(), option::of(ms()), option::of(ms()), option::of(ms()), option::of(ms())).prop_map(
        |(queue_ms, total_ms, first_token_ms, load_ms, prompt_ms, completion_ms)| Timings {
            queue_ms,
            first_token_ms,
            total_ms,
            load_ms,
            prompt_ms,
            completion_ms,
        },
    )
}

fn attempt() -> impl Strategy<Value = Attempt> {
    (name(), name(), outcome(), option::of(text()), any::<f32>())
        .prop_map(|(node, target, outcome, reason, ms)| Attempt { node, target, outcome, reason, ms: ms.into() })
}

fn rare() -> impl Strategy<Value = (SystemPrompt, Cost, Capture, Feedback)> {
    (name(), any::<[u8; 32]>(), option::of(text()), option::of(text()), 0.0..1.0).prop_map(
        |(version, digest, request, answer, score)| {
            let digest = Digest::from_sha256(&digest);
            let cost = serde_json::from_value(json!({ "amount": score, "currency": "USD" })).expect("a cost");
            (
                SystemPrompt { version, digest },
                cost,
                Capture { request, answer: answer.clone() },
                Feedback { score, comment: answer },
            )
        },
    )
}

prop_compose! {
    fn record()(
        (id, moment) in (any::<u128>(), 0..4_102_444_800_000_000_000_i128),
        (namespace, path, requested) in (name(), text(), name()),
        (caller, error, finish_reason, trace_id) in (option::of(name()), option::of(text()), option::of(text()), option::of(name())),
        (resolved, keep_alive) in (option::of(resolved()), option::of(effective())),
        parameters in vec((text(), effective()), 0..4),
        (dropped_parameters, tools) in (vec(text(), 0..3), vec(text(), 0..3)),
        (has_format, stream, truncated, status, outcome) in (any::<bool>(), any::<bool>(), any::<bool>(), any::<u16>(), outcome()),
        (prompt, completion, timings, attempts) in (any::<u64>(), any::<u64>(), timings(), vec(attempt(), 0..3)),
        rare in option::of(rare()),
    ) -> RunRecord {
        let (system_prompt, cost, capture, feedback) = rare.map_or((None, None, None, None), |(prompt, cost, capture, feedback)| {
            (Some(prompt), Some(cost), Some(capture), Some(feedback))
        });
        RunRecord {
            id: RunId(id),
            started_at: Timestamp::from_nanosecond(moment).expect("a moment"),
            namespace,
            caller,
            path: Cow::Owned(path),
            requested,
            resolved,
            parameters: parameters.into_iter().collect::<BTreeMap<_, _>>(),
            dropped_parameters,
            keep_alive,
            system_prompt,
            tools,
            has_format,
            stream,
            outcome,
            status,
            error,
            finish_reason,
            truncated,
            tokens: Tokens { prompt, completion },
            replay_of: cost.as_ref().map(|_| RunId(!id)),
            cost,
            timings,
            attempts,
            session: feedback.as_ref().map(|_| Session(prompt)),
            capture,
            feedback,
            trace_id,
        }
    }
}

proptest! {
    #[test]
    fn a_record_is_written_as_serde_writes_it(record in record()) {
        let mut written = b"before ".to_vec();
        write(&record, &mut written).expect("JSON");
        let expected = format!("before {}", serde_json::to_string(&record).expect("JSON"));
        prop_assert_eq!(String::from_utf8(written).expect("text"), expected);
    }
}
