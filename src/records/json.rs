//! A record as JSON, byte for byte what serde would write (`tests/properties/records.rs` holds it to that).
//!
//! Every request waits for this: written by serde, a record was an eighth of a request's instructions.
//! Names and texts, which are most of it, are written straight into the line here; serde writes numbers and what is rare.

use serde::Serialize;
use serde_json::{Result, Value, to_writer};

use crate::{
    domain::run_record::{Attempt, Effective, Resolved, Timings, Tokens},
    ports::RunRecord,
};

/// Writes a record.
///
/// # Errors
/// When a value of it can't be written as JSON.
pub fn write(record: &RunRecord, out: &mut Vec<u8>) -> Result<()> {
    // Taken apart, so that no field can be forgotten.
    let RunRecord {
        id,
        started_at,
        namespace,
        caller,
        path,
        requested,
        resolved,
        parameters,
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
        tokens,
        cost,
        timings,
        attempts,
        capture,
        replay_of,
        feedback,
        session,
        trace_id,
    } = record;
    let mut object = Object::begin(out);
    object.plain("id", &id.digits());
    object.value("startedAt", started_at)?;
    object.text("namespace", namespace)?;
    object.texts([("caller", caller.as_deref())])?;
    object.text("path", path)?;
    object.text("requested", requested)?;
    if let Some(resolved) = resolved {
        object.object("resolved", |object| write_resolved(resolved, object))?;
    }
    if !parameters.is_empty() {
        object.object("parameters", |object| {
            parameters.iter().try_for_each(|(name, value)| {
                object.name(name)?;
                write_effective(value, object.out)
            })
        })?;
    }
    object.list("droppedParameters", dropped_parameters)?;
    if let Some(keep_alive) = keep_alive {
        object.key("keepAlive");
        write_effective(keep_alive, object.out)?;
    }
    object.optional("systemPrompt", system_prompt.as_ref())?;
    object.list("tools", tools)?;
    object.flag("hasFormat", *has_format);
    object.flag("stream", *stream);
    object.plain("outcome", outcome.name().as_bytes());
    object.value("status", status)?;
    object.texts([("error", error.as_deref()), ("finishReason", finish_reason.as_deref())])?;
    object.flag("truncated", *truncated);
    object.object("tokens", |object| {
        let Tokens { prompt, completion } = tokens;
        object.value("prompt", prompt)?;
        object.value("completion", completion)
    })?;
    object.optional("cost", cost.as_ref())?;
    object.object("timings", |object| write_timings(timings, object))?;
    if !attempts.is_empty() {
        object.key("attempts");
        write_list(attempts, object.out, write_attempt)?;
    }
    object.optional("capture", capture.as_ref())?;
    object.optional("replayOf", replay_of.as_ref())?;
    object.optional("feedback", feedback.as_ref())?;
    object.optional("session", session.as_ref())?;
    object.texts([("traceId", trace_id.as_deref())])?;
    object.end();
    Ok(())
}

fn write_resolved(resolved: &Resolved, object: &mut Object<'_>) -> Result<()> {
    let Resolved { model, digest, version, deployment, node, reason } = resolved;
    object.text("model", model)?;
    object.texts([
        ("digest", Some(&**digest).filter(|digest| !digest.is_empty())),
        ("version", version.as_deref()),
        ("deployment", deployment.as_deref()),
        ("node", node.as_deref()),
    ])?;
    object.text("reason", reason)
}

fn write_effective(Effective { value, source }: &Effective<Value>, out: &mut Vec<u8>) -> Result<()> {
    let mut object = Object::begin(out);
    match value {
        Value::String(text) => object.text("value", text)?,
        other => object.value("value", other)?,
    }
    object.plain("source", source.name().as_bytes());
    object.end();
    Ok(())
}

fn write_timings(timings: &Timings, object: &mut Object<'_>) -> Result<()> {
    let Timings { queue_ms, first_token_ms, total_ms, load_ms, prompt_ms, completion_ms } = timings;
    object.value("queueMs", queue_ms)?;
    object.optional("firstTokenMs", first_token_ms.as_ref())?;
    object.value("totalMs", total_ms)?;
    object.optional("loadMs", load_ms.as_ref())?;
    object.optional("promptMs", prompt_ms.as_ref())?;
    object.optional("completionMs", completion_ms.as_ref())
}

fn write_attempt(attempt: &Attempt, out: &mut Vec<u8>) -> Result<()> {
    let Attempt { node, target, outcome, reason, ms } = attempt;
    let mut object = Object::begin(out);
    object.text("node", node)?;
    object.text("target", target)?;
    object.plain("outcome", outcome.name().as_bytes());
    object.texts([("reason", reason.as_deref())])?;
    object.value("ms", ms)?;
    object.end();
    Ok(())
}

fn write_list<T>(list: &[T], out: &mut Vec<u8>, each: impl Fn(&T, &mut Vec<u8>) -> Result<()>) -> Result<()> {
    out.push(b'[');
    for (index, entry) in list.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        each(entry, out)?;
    }
    out.push(b']');
    Ok(())
}

/// Text as JSON.
fn write_text(text: &str, out: &mut Vec<u8>) -> Result<()> {
    // No early end: the processor looks at many bytes at once.
    let is_special = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    if text.as_bytes().iter().fold(false, |found, byte| found | is_special(byte)) {
        return to_writer(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

/// A JSON object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    fn end(self) {
        self.out.push(b'}');
    }

    /// Begins a field whose name needs no escapes.
    #[inline]
    fn key(&mut self, name: &'static str) {
        self.out.extend_from_slice(if self.is_empty { b"\"" } else { b",\"" });
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.is_empty = false;
    }

    /// Begins a field of any name.
    fn name(&mut self, name: &str) -> Result<()> {
        if !self.is_empty {
            self.out.push(b',');
        }
        write_text(name, self.out)?;
        self.out.push(b':');
        self.is_empty = false;
        Ok(())
    }

    fn text(&mut self, name: &'static str, text: &str) -> Result<()> {
        self.key(name);
        write_text(text, self.out)
    }

    /// Those that are there.
    fn texts<const N: usize>(&mut self, fields: [(&'static str, Option<&str>); N]) -> Result<()> {
        let mut there = fields.into_iter().filter_map(|(name, text)| Some((name, text?)));
        there.try_for_each(|(name, text)| self.text(name, text))
    }

    /// Text that needs no escapes.
    fn plain(&mut self, name: &'static str, text: &[u8]) {
        self.key(name);
        self.out.push(b'"');
        self.out.extend_from_slice(text);
        self.out.push(b'"');
    }

    fn flag(&mut self, name: &'static str, flag: bool) {
        self.key(name);
        self.out.extend_from_slice(if flag { b"true" } else { b"false" });
    }

    fn list(&mut self, name: &'static str, texts: &[String]) -> Result<()> {
        if texts.is_empty() {
            return Ok(());
        }
        self.key(name);
        write_list(texts, self.out, |text, out| write_text(text, out))
    }

    fn object(&mut self, name: &'static str, fields: impl FnOnce(&mut Object<'_>) -> Result<()>) -> Result<()> {
        self.key(name);
        let mut object = Object::begin(self.out);
        fields(&mut object)?;
        object.end();
        Ok(())
    }

    /// Whatever serde writes.
    fn value(&mut self, name: &'static str, value: &impl Serialize) -> Result<()> {
        self.key(name);
        to_writer(&mut *self.out, value)
    }

    fn optional(&mut self, name: &'static str, value: Option<&impl Serialize>) -> Result<()> {
        value.map_or(Ok(()), |value| self.value(name, value))
    }
}
