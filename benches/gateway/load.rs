//! A load generator on one thread, in a process of its own.
//!
//! Without a rate every connection sends its next request as soon as the last one is answered. With one, requests leave on
//! a timetable whatever comes back, and latency counts from the timetable, so that waiting for a slow server is not lost.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};
use serde::{Deserialize, Serialize};

use super::{answer::Answer, pinned};

/// How long answers that are under way at the end are heard out.
const HEAR_OUT: Duration = Duration::from_secs(10);
const EVENTS: usize = 256;

/// What to send, and how.
#[derive(Serialize, Deserialize)]
pub struct Job {
    /// On 127.0.0.1.
    pub port: u16,
    /// One whole request.
    pub request: String,
    pub connections: usize,
    pub seconds: f64,
    /// Requests per second; `None`: as many as are answered.
    pub rate: Option<f64>,
    /// Without a rate: within so many seconds the connections send their first requests, one after the other.
    pub spread: f64,
    /// Whether to count the events of the answers.
    pub lines: bool,
}

/// What came of it. Times are in microseconds.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Answers per second, of those that came in time.
    pub rate: f64,
    /// Answers in all, also those heard out afterwards.
    pub answers: u64,
    /// Answers that were none: another status than 200, or a broken connection.
    pub errors: u64,
    /// Until the whole answer.
    pub whole: Percentiles,
    /// Until its first event.
    pub first: Percentiles,
    /// Events per second.
    pub events: f64,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
}

/// Runs the job that is given as JSON and prints the figures as JSON.
pub fn main(job: &str) {
    pinned::to_load_core();
    let job = serde_json::from_str(job).expect("a job");
    let figures = Load::new(job).run();
    println!("{}", serde_json::to_string(&figures).expect("figures are JSON"));
}

struct Connection {
    socket: TcpStream,
    /// When the request under way was sent, or should have been.
    since: Option<Instant>,
    first: Option<Instant>,
    answer: Answer,
}

struct Load {
    job: Job,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// The connections that are free, longest first.
    free: VecDeque<usize>,
    figures: Figures,
    events: u64,
    whole: Vec<Duration>,
    first: Vec<Duration>,
}

impl Load {
    fn new(job: Job) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        let connections = (0..job.connections).map(|index| connect(&epoll, job.port, index)).collect();
        let (free, figures) = ((0..job.connections).collect(), Figures::default());
        Self { job, epoll, connections, free, figures, events: 0, whole: Vec::new(), first: Vec::new() }
    }

    fn run(mut self) -> Figures {
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(self.job.seconds);
        let mut sent = 0_u32;
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            let mut wake = end;
            while !self.free.is_empty() {
                let due = self.due(sent).map_or(now, |due| start + Duration::from_secs_f64(due));
                if due > now {
                    wake = wake.min(due);
                    break;
                }
                sent += 1;
                self.send(self.job.rate.map(|_| due));
            }
            self.wait(wake.saturating_duration_since(Instant::now()));
        }
        let seconds = start.elapsed().as_secs_f64();
        self.figures.rate = self.figures.answers as f64 / seconds;
        self.figures.events = self.events as f64 / seconds;
        let last = Instant::now() + HEAR_OUT;
        while self.free.len() < self.connections.len() && Instant::now() < last {
            self.wait(Duration::from_millis(100));
        }
        self.figures.whole = percentiles(self.whole);
        self.figures.first = percentiles(self.first);
        self.figures
    }

    /// When so many requests have been sent, the next one's place on the timetable in seconds; `None`: now.
    fn due(&self, sent: u32) -> Option<f64> {
        let (sent, connections) = (f64::from(sent), self.connections.len() as f64);
        let first = || (sent < connections).then(|| self.job.spread * sent / connections);
        self.job.rate.map(|rate| sent / rate).or_else(first)
    }

    /// Sends a request on the connection that is free for longest.
    fn send(&mut self, due: Option<Instant>) {
        let Some(index) = self.free.pop_front() else { return };
        let connection = &mut self.connections[index];
        connection.answer.clear();
        (connection.since, connection.first) = (Some(due.unwrap_or_else(Instant::now)), None);
        // A request is far smaller than a socket's buffer.
        if connection.socket.write_all(self.job.request.as_bytes()).is_err() {
            self.fail(index);
        }
    }

    fn wait(&mut self, within: Duration) {
        let mut ready = Vec::with_capacity(EVENTS);
        let within = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: i64::from(within.subsec_nanos()) };
        epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&within)).expect("epoll");
        for event in ready {
            self.read(event.data.u64() as usize);
        }
    }

    fn read(&mut self, index: usize) {
        let mut buffer = [0; 64 << 10];
        let connection = &mut self.connections[index];
        let count = match connection.socket.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Ok(0) | Err(_) => return self.fail(index),
            Ok(count) => count,
        };
        let before = connection.answer.events;
        let is_whole = connection.answer.push(&buffer[..count], self.job.lines);
        if connection.answer.events > 0 && connection.first.is_none() {
            connection.first = Some(Instant::now());
        }
        self.events += connection.answer.events - before;
        if is_whole {
            self.done(index);
        }
    }

    fn done(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(since) = connection.since.take() else { return };
        self.free.push_back(index);
        if connection.answer.status != 200 {
            self.figures.errors += 1;
            return;
        }
        self.figures.answers += 1;
        self.whole.push(since.elapsed());
        self.first.extend(connection.first.map(|first| first - since));
    }

    /// The connection broke; another one takes its place.
    fn fail(&mut self, index: usize) {
        if self.connections[index].since.is_some() {
            self.figures.errors += 1;
            self.free.push_back(index);
        }
        self.connections[index] = connect(&self.epoll, self.job.port, index);
    }
}

fn connect(epoll: &OwnedFd, port: u16, index: usize) -> Connection {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the target listens");
    socket.set_nodelay(true).expect("an option of every socket");
    socket.set_nonblocking(true).expect("an option of every socket");
    let data = epoll::EventData::new_u64(index as u64);
    epoll::add(epoll, &socket, data, epoll::EventFlags::IN).expect("epoll takes a socket");
    Connection { socket, since: None, first: None, answer: Answer::default() }
}

fn percentiles(mut times: Vec<Duration>) -> Percentiles {
    times.sort_unstable();
    let at = |share: f64| match times.len() {
        0 => 0.0,
        count => times[(share * (count - 1) as f64) as usize].as_secs_f64() * 1e6,
    };
    Percentiles { p50: at(0.5), p99: at(0.99) }
}
