//! Server-sent events out of a body that comes in any pieces: pure.

/// The longest event that a provider may send, in bytes.
const LONGEST: usize = 64 << 20;

/// Joins the pieces of a body and cuts them into the data of its events.
#[derive(Debug, Default)]
pub struct Events {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The data of an event whose end has not come yet.
    data: Vec<u8>,
}

impl Events {
    /// The data of each event that `piece` completes.
    ///
    /// # Errors
    /// That an event gets longer than anything a provider has to say.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let mut found = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                found.extend(self.take(line.trim_ascii_end()));
            }
        }
        let length = self.line.len() + self.data.len();
        if length > LONGEST { Err(format!("an event longer than {LONGEST} bytes")) } else { Ok(found) }
    }

    /// What came after the last event's end.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        self.take(line.trim_ascii_end()).or_else(|| self.take(b""))
    }

    /// Reads a line; an empty one ends the event.
    fn take(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        if line.is_empty() {
            return Some(std::mem::take(&mut self.data)).filter(|data| !data.is_empty());
        }
        // Names, ids and comments of events say nothing that their data don't.
        if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        None
    }
}
