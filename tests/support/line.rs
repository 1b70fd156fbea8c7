//! A line between a program and a server that can go dead without a word, as lines behind load balancers do: nobody
//! hangs up, and nothing comes any more.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::free_port;

/// Passes bytes on, of any protocol.
pub struct Line {
    port: u16,
    /// Connections with a lower number are dead.
    dead_below: watch::Sender<u64>,
    /// How many connections there have been.
    made: watch::Receiver<u64>,
    server: JoinHandle<()>,
}

impl Line {
    /// A line to a port of this machine.
    pub async fn start(to: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        let (dead_below, dead) = watch::channel(0);
        let (count, made) = watch::channel(0);
        let server = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let number = *count.borrow();
                count.send_replace(number + 1);
                tokio::spawn(connection(near, to, number, dead.clone()));
            }
        });
        Self { port, dead_below, made, server }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Nothing passes, neither on connections that are there nor on new ones.
    pub fn go_dead(&self) {
        self.dead_below.send_replace(u64::MAX);
    }

    /// Nothing passes on connections that are there, and nobody is told. New ones work.
    pub fn kill_present_connections(&self) {
        self.dead_below.send_replace(*self.made.borrow());
    }

    /// What was held up arrives, and all works again.
    pub fn revive(&self) {
        self.dead_below.send_replace(0);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn connection(near: TcpStream, to: u16, number: u64, dead_below: watch::Receiver<u64>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    for end in [&near, &far] {
        end.set_nodelay(true).expect("an option of every socket");
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::join!(pass(near_in, far_out, number, dead_below.clone()), pass(far_in, near_out, number, dead_below));
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, number: u64, mut dead_below: watch::Receiver<u64>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await;
        // The sender is gone with the line: then all of it is.
        let Ok(_) = dead_below.wait_for(|below| number >= *below).await else { return };
        match read {
            Ok(read) if read > 0 && to.write_all(&buffer[..read]).await.is_ok() => {}
            _ => return,
        }
    }
}
