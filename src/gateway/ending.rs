//! The end of a node's answer, which tells what the answer cost.

use serde::Deserialize;

/// How every line but the last one ends, as Ollama writes it.
const GOES_ON: &[u8] = b"\"done\":false}";

/// What a node says at the end of its answer; times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ending {
    done: bool,
    /// Why the model stopped.
    pub done_reason: Option<String>,
    /// Tokens read.
    pub prompt_eval_count: u64,
    /// Tokens written.
    pub eval_count: u64,
    /// Loading the model.
    pub load_duration: Option<u64>,
    /// Reading the prompt.
    pub prompt_eval_duration: Option<u64>,
    /// Writing the answer.
    pub eval_duration: Option<u64>,
}

impl Ending {
    /// The end, if this line of a stream is the last one.
    pub fn of_line(line: &[u8]) -> Option<Self> {
        if line.ends_with(GOES_ON) {
            return None;
        }
        serde_json::from_slice(line).ok().filter(|ending: &Self| ending.done)
    }

    /// The end of an answer that came whole; nothing if it can't be read.
    pub fn of_whole(answer: &[u8]) -> Option<Self> {
        serde_json::from_slice(answer).ok()
    }
}
