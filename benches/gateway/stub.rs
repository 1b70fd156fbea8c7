//! A server that answers as an Ollama node and as an OpenAI-compatible server do, at once and without looking at the prompt:
//! one thread, in a process of its own. One answer is one write, and so is one chunk of a stream.
//!
//! `GET /_stub?delay_us=N`: from now on, N microseconds between the chunks of a stream.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};

use super::{CHUNKS, MODEL, pinned};

const EVENTS: usize = 256;
const WORDS: &str =
    "The quick brown fox jumps over the lazy dog while the gateway counts every microsecond it spends. ";

/// Serves on these ports of 127.0.0.1 until it is killed.
pub fn main(ports: &[String]) {
    pinned::to_load_core();
    let ports = ports.iter().map(|port| port.parse().expect("a port"));
    Stub::new(ports.collect()).run();
}

/// Everything it ever says.
struct Answers {
    chat: Vec<u8>,
    completion: Vec<u8>,
    chat_stream: Vec<Vec<u8>>,
    completion_stream: Vec<Vec<u8>>,
    nothing: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let opening = format!(r#"{{"model":"{MODEL}","created_at":"2026-01-01T00:00:00Z","#);
        let end = r#""done":true,"done_reason":"stop","total_duration":1000000,"load_duration":1000,"prompt_eval_count":120,"prompt_eval_duration":1000,"eval_count":80,"eval_duration":1000}"#;
        let says = |text: &str| format!(r#""message":{{"role":"assistant","content":"{text}"}},"#);
        let event = r#"{"id":"chatcmpl-stub","object":"chat.completion.chunk","created":1700000000,"model":"stub","choices":[{"index":0,"#;
        let words = WORDS.repeat(4);
        Self {
            chat: whole(&format!("{opening}{}{end}", says(&words))),
            completion: whole(&format!(
                r#"{{"id":"chatcmpl-stub","object":"chat.completion","created":1700000000,"model":"stub","choices":[{{"index":0,"message":{{"role":"assistant","content":"{words}"}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":120,"completion_tokens":80,"total_tokens":200}},"system_fingerprint":"fp_stub"}}"#
            )),
            chat_stream: stream(
                "application/x-ndjson",
                &format!("{opening}{}\"done\":false}}\n", says("token ")),
                &format!("{opening}{}{end}\n", says("token ")),
                "",
            ),
            completion_stream: stream(
                "text/event-stream",
                &format!("data: {event}\"delta\":{{\"content\":\"token \"}},\"finish_reason\":null}}]}}\n\n"),
                &format!("data: {event}\"delta\":{{\"content\":\"token \"}},\"finish_reason\":\"stop\"}}]}}\n\n"),
                "data: [DONE]\n\n",
            ),
            nothing: whole("{}"),
        }
    }

    fn stream(&self, is_openai: bool) -> &[Vec<u8>] {
        if is_openai { &self.completion_stream } else { &self.chat_stream }
    }
}

fn whole(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn stream(kind: &str, piece: &str, last: &str, mark: &str) -> Vec<Vec<u8>> {
    let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
    let mut parts: Vec<String> = (1..CHUNKS).map(|_| chunk(piece)).chain([chunk(last)]).collect();
    parts[0].insert_str(
        0,
        &format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
    );
    parts.push(if mark.is_empty() { String::new() } else { chunk(mark) } + "0\r\n\r\n");
    parts.into_iter().map(String::into_bytes).collect()
}

struct Connection {
    socket: TcpStream,
    read: Vec<u8>,
    stream: Option<Stream>,
}

/// An answer that is being streamed.
struct Stream {
    is_openai: bool,
    next: usize,
    due: Instant,
}

struct Stub {
    answers: Answers,
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    /// The connections on which an answer is being streamed.
    streaming: Vec<usize>,
    delay: Duration,
}

impl Stub {
    fn new(ports: Vec<u16>) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        let listen = |(index, port): (usize, u16)| {
            let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
            listener.set_nonblocking(true).expect("an option of every socket");
            watch(&epoll, &listener, index);
            listener
        };
        let listeners: Vec<_> = ports.into_iter().enumerate().map(listen).collect();
        let (answers, delay) = (Answers::new(), Duration::ZERO);
        Self { answers, epoll, listeners, connections: Vec::new(), streaming: Vec::new(), delay }
    }

    fn run(mut self) {
        loop {
            let mut ready = Vec::with_capacity(EVENTS);
            epoll::wait(&self.epoll, spare_capacity(&mut ready), self.pause().as_ref()).expect("epoll");
            for event in ready {
                match (event.data.u64() as usize).checked_sub(self.listeners.len()) {
                    None => self.accept(event.data.u64() as usize),
                    Some(index) => self.read(index),
                }
            }
            self.advance();
        }
    }

    /// How long there is nothing to send; `None`: until something comes.
    fn pause(&self) -> Option<Timespec> {
        let streams = self.streaming.iter().filter_map(|index| self.connections[*index].as_ref()?.stream.as_ref());
        let due = streams.map(|stream| stream.due).min()?;
        let pause = due.saturating_duration_since(Instant::now());
        Some(Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: i64::from(pause.subsec_nanos()) })
    }

    fn accept(&mut self, listener: usize) {
        while let Ok((socket, _)) = self.listeners[listener].accept() {
            socket.set_nodelay(true).expect("an option of every socket");
            socket.set_nonblocking(true).expect("an option of every socket");
            let free = self.connections.iter().position(Option::is_none).unwrap_or(self.connections.len());
            watch(&self.epoll, &socket, self.listeners.len() + free);
            let connection = Some(Connection { socket, read: Vec::new(), stream: None });
            if free == self.connections.len() {
                self.connections.push(connection);
            } else {
                self.connections[free] = connection;
            }
        }
    }

    fn read(&mut self, index: usize) {
        let mut buffer = [0; 64 << 10];
        let Some(connection) = &mut self.connections[index] else { return };
        match connection.socket.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => self.close(index),
            Ok(count) => {
                connection.read.extend_from_slice(&buffer[..count]);
                self.serve(index);
            }
        }
    }

    fn close(&mut self, index: usize) {
        self.connections[index] = None;
        self.streaming.retain(|other| *other != index);
    }

    /// Answers the requests that are whole, one after the other.
    fn serve(&mut self, index: usize) {
        while let Some(connection) = self.connections[index].as_mut().filter(|connection| connection.stream.is_none()) {
            let Some(length) = request_length(&connection.read) else { return };
            let request: Vec<u8> = connection.read.drain(..length).collect();
            let says = |words: &[u8]| request.windows(words.len()).any(|part| part == words);
            let (is_openai, is_chat) = (says(b"/v1/chat/completions HTTP"), says(b"/api/chat HTTP"));
            let answer = if is_openai && !says(b"\"stream\":true") {
                &self.answers.completion
            } else if is_chat && says(b"\"stream\":false") {
                &self.answers.chat
            } else if is_openai || is_chat {
                connection.stream = Some(Stream { is_openai, next: 0, due: Instant::now() });
                self.streaming.push(index);
                return;
            } else {
                if let Some(delay) = delay(&request) {
                    self.delay = delay;
                }
                &self.answers.nothing
            };
            if connection.socket.write_all(answer).is_err() {
                self.close(index);
            }
        }
    }

    /// Sends the chunks that are due.
    fn advance(&mut self) {
        let now = Instant::now();
        for index in self.streaming.clone() {
            let Some(connection) = &mut self.connections[index] else { continue };
            let Some(stream) = connection.stream.as_mut().filter(|stream| stream.due <= now) else { continue };
            let parts = self.answers.stream(stream.is_openai);
            let part = &parts[stream.next];
            stream.next += 1;
            stream.due += self.delay;
            let is_last = stream.next == parts.len();
            // All of a stream is smaller than a socket's buffer.
            if connection.socket.write_all(part).is_err() {
                self.close(index);
            } else if is_last {
                connection.stream = None;
                self.streaming.retain(|other| *other != index);
                self.serve(index);
            }
        }
    }
}

fn watch(epoll: &OwnedFd, socket: &impl std::os::fd::AsFd, index: usize) {
    let data = epoll::EventData::new_u64(index as u64);
    epoll::add(epoll, socket, data, epoll::EventFlags::IN).expect("epoll takes a socket");
}

/// How long the first request is; `None` while it isn't whole.
fn request_length(read: &[u8]) -> Option<usize> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&read[..end]).expect("a head in ASCII");
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = end + length.map_or(0, |(_, length)| length.trim().parse().expect("a length"));
    (read.len() >= length).then_some(length)
}

fn delay(request: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(request).ok()?;
    let digits = text.strip_prefix("GET /_stub?delay_us=")?.split(' ').next()?;
    digits.parse().ok().map(Duration::from_micros)
}
