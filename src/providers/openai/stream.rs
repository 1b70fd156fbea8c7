//! A streamed chat completion as Ollama's lines.

use super::{
    super::native::{Said, Translator, Writer},
    answer::{Call, Completion, Usage, call, end, words},
};

/// A stream under way.
pub struct Stream {
    writer: Writer,
    calls: Vec<Partial>,
    finish_reason: Option<String>,
    usage: Usage,
    is_over: bool,
}

/// A call whose pieces are still coming.
#[derive(Default)]
struct Partial {
    id: String,
    name: String,
    arguments: String,
}

impl Stream {
    /// One of which nothing has come yet.
    pub fn new(writer: Writer) -> Self {
        Self { writer, calls: Vec::new(), finish_reason: None, usage: Usage::default(), is_over: false }
    }

    fn add(&mut self, piece: Call) {
        // Servers that send whole calls leave the index out, or give each call the first.
        let last = self.calls.len().saturating_sub(1);
        let starts = piece
            .id
            .as_deref()
            .is_some_and(|id| self.calls.get(last).is_some_and(|call| !id.is_empty() && call.id != id));
        let at = match piece.index {
            Some(index) if index > last || !starts => index.min(self.calls.len()),
            _ if starts => self.calls.len(),
            _ => last,
        };
        if at == self.calls.len() {
            self.calls.push(Partial::default());
        }
        let call = &mut self.calls[at];
        call.id = piece.id.filter(|id| !id.is_empty()).unwrap_or_else(|| std::mem::take(&mut call.id));
        call.name += piece.function.name.as_deref().unwrap_or_default();
        call.arguments += piece.function.arguments.as_deref().unwrap_or_default();
    }

    /// Ends the answer: with the calls, which are whole by now.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let Some(reason) = self.finish_reason.take() else { return Ok(()) };
        self.is_over = true;
        let calls = std::mem::take(&mut self.calls).into_iter().enumerate();
        let calls = calls.map(|(index, partial)| call(index, partial.id, partial.name, &partial.arguments));
        let said = Said { calls: calls.collect::<Result<_, _>>()?, ..Said::default() };
        if !said.is_empty() {
            self.writer.line(&said, None, out);
        }
        self.writer.line(&Said::default(), Some(&end(&reason, self.usage)), out);
        Ok(())
    }
}

impl Translator for Stream {
    fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if self.is_over {
            return Ok(());
        }
        if data.trim_ascii() == b"[DONE]" {
            return self.finish(out);
        }
        let completion: Completion =
            serde_json::from_slice(data).map_err(|_| "an event of the provider is no chat completion".to_owned())?;
        if let Some(error) = &completion.error {
            return Err(words(error));
        }
        self.usage = completion.usage.unwrap_or(self.usage);
        let Some(choice) = completion.choices.into_iter().next() else { return Ok(()) };
        let delta = choice.delta.or(choice.message).unwrap_or_default();
        let mut said = delta.said();
        delta.tool_calls.into_iter().flatten().for_each(|call| self.add(call));
        said.logprobs = choice.logprobs.and_then(|logprobs| logprobs.content);
        if !said.is_empty() {
            self.writer.line(&said, None, out);
        }
        match choice.finish_reason.as_deref() {
            Some("error") => return Err("the provider broke the answer off with an error".into()),
            Some(reason) if !reason.is_empty() => self.finish_reason = Some(reason.into()),
            _ => {}
        }
        Ok(())
    }

    /// Some servers send no `[DONE]`: an answer with a reason for its end is whole all the same.
    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        self.finish(out)
    }
}
