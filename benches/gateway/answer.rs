//! Reads HTTP/1.1 answers as they come in, as far as a load generator must understand them.

const HEAD_END: &[u8] = b"\r\n\r\n";
/// So much of a line says whether it is an event.
const OPENING: usize = 7;

/// One answer that is being read.
#[derive(Default)]
pub struct Answer {
    head: Vec<u8>,
    state: State,
    line: Vec<u8>,
    /// HTTP status, once the head is there.
    pub status: u16,
    /// Lines that hold a JSON object, as NDJSON or as server-sent events.
    pub events: u64,
}

#[derive(Default)]
enum State {
    #[default]
    Head,
    /// Bytes of a body of known length that are still to come.
    Body(usize),
    /// The digits of a chunk's size so far.
    Size(usize),
    /// Bytes of a chunk that are still to come, and of the line end behind it.
    Chunk(usize, usize),
    /// The lines behind the last chunk; whether the present one is empty so far.
    Trailer(bool),
}

impl Answer {
    /// Takes what came; true once the answer is whole. With `lines`, its events are counted.
    pub fn push(&mut self, mut bytes: &[u8], lines: bool) -> bool {
        while let Some(&first) = bytes.first() {
            match &mut self.state {
                State::Head => {
                    let before = self.head.len();
                    self.head.extend_from_slice(bytes);
                    let Some(end) = self.head.windows(4).position(|four| four == HEAD_END) else { return false };
                    bytes = &bytes[end + 4 - before..];
                    if self.read_head(end) {
                        return true;
                    }
                }
                State::Body(left) => {
                    let part = &bytes[..bytes.len().min(*left)];
                    *left -= part.len();
                    let is_whole = *left == 0;
                    bytes = &bytes[part.len()..];
                    self.count(part, lines);
                    if is_whole {
                        return true;
                    }
                }
                State::Size(size) => {
                    bytes = &bytes[1..];
                    match (first as char).to_digit(16) {
                        Some(digit) => *size = *size * 16 + digit as usize,
                        None if first == b'\n' && *size == 0 => self.state = State::Trailer(true),
                        None if first == b'\n' => self.state = State::Chunk(*size, 2),
                        None => {}
                    }
                }
                State::Chunk(0, 0) => self.state = State::Size(0),
                State::Chunk(0, line_end) => {
                    *line_end -= 1;
                    bytes = &bytes[1..];
                }
                State::Chunk(left, _) => {
                    let part = &bytes[..bytes.len().min(*left)];
                    *left -= part.len();
                    bytes = &bytes[part.len()..];
                    self.count(part, lines);
                }
                State::Trailer(is_empty) => {
                    bytes = &bytes[1..];
                    match first {
                        b'\n' if *is_empty => return true,
                        b'\n' => *is_empty = true,
                        b'\r' => {}
                        _ => *is_empty = false,
                    }
                }
            }
        }
        false
    }

    /// Forgets everything, for the next answer.
    pub fn clear(&mut self) {
        self.head.clear();
        self.line.clear();
        (self.state, self.status, self.events) = (State::Head, 0, 0);
    }

    /// Whether the answer ends with its head.
    fn read_head(&mut self, end: usize) -> bool {
        let head = std::str::from_utf8(&self.head[..end]).expect("a head in ASCII");
        self.status = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(':'));
            fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        self.state = match field("content-length") {
            Some(length) => State::Body(length.parse().expect("a length")),
            None => State::Size(0),
        };
        matches!(self.state, State::Body(0))
    }

    fn count(&mut self, part: &[u8], lines: bool) {
        if !lines {
            return;
        }
        for piece in part.split_inclusive(|byte| *byte == b'\n') {
            let room = OPENING - self.line.len();
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let opening = self.line.strip_prefix(b"data: ").unwrap_or(&self.line);
                self.events += u64::from(opening.first() == Some(&b'{'));
                self.line.clear();
            }
        }
    }
}
