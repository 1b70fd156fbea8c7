//! Pullers that do as little as they can with what they get.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Instant,
};

const BUFFER: usize = 256 << 10;

/// So many pullers fetch a file of `size` bytes at once, so many times each, in parts that are fetched side by side.
/// Panics when one gets another number of bytes than it asked for.
pub fn pull(port: u16, path: &str, size: u64, part: u64, pullers: usize, times: u64) {
    let parts: Vec<(u64, u64)> = (0..size).step_by(part as usize).map(|at| (at, (at + part).min(size))).collect();
    thread::scope(|scope| {
        for _ in 0..pullers {
            for range in &parts {
                let whole = parts.len() == 1;
                scope.spawn(move || fetch(port, path, *range, whole, times));
            }
        }
    });
}

fn fetch(port: u16, path: &str, (start, end): (u64, u64), whole: bool, times: u64) {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    connection.set_nodelay(true).expect("an option of every socket");
    let range = if whole { String::new() } else { format!("Range: bytes={start}-{}\r\n", end - 1) };
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{range}\r\n");
    let mut buffer = vec![0; BUFFER];
    for _ in 0..times {
        connection.write_all(request.as_bytes()).expect("it takes a request");
        let mut left = end - start;
        let (length, came) = head(&mut connection, &mut buffer);
        assert_eq!(length, left, "bytes of the answer");
        left -= came as u64;
        while left > 0 {
            let most = buffer.len().min(left as usize);
            let read = connection.read(&mut buffer[..most]).expect("it answers");
            assert!(read > 0, "the answer ended {left} bytes early");
            left -= read as u64;
        }
    }
}

/// Reads the head of an answer: how long the body is that it announces, and how much of that came with it.
fn head(connection: &mut TcpStream, buffer: &mut [u8]) -> (u64, usize) {
    let mut filled = 0;
    loop {
        let read = connection.read(&mut buffer[filled..]).expect("it answers");
        assert!(read > 0, "no answer");
        filled += read;
        if let Some(at) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&buffer[..at]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            return (length.unwrap_or_else(|| panic!("no length: {text}")), filled - at - 4);
        }
    }
}

/// Asks for a path so many times, one after another; how many milliseconds each whole answer took.
pub fn latencies(port: u16, path: &str, times: usize) -> Vec<f64> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    connection.set_nodelay(true).expect("an option of every socket");
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    let mut buffer = vec![0; BUFFER];
    let mut once = || {
        let start = Instant::now();
        connection.write_all(request.as_bytes()).expect("it takes a request");
        let (length, came) = head(&mut connection, &mut buffer);
        let mut left = length - came as u64;
        while left > 0 {
            let read = connection.read(&mut buffer).expect("it answers");
            assert!(read > 0, "the answer ended {left} bytes early");
            left -= read as u64;
        }
        start.elapsed().as_secs_f64() * 1000.0
    };
    (0..times).map(|_| once()).collect()
}
