//! Owns every task. A service that ends, for whatever reason, ends the process: a half-working process that looks
//! alive is worse than a restart. On SIGTERM or SIGINT everything is asked to finish and given time to.

use std::{collections::HashMap, fmt::Display, future::Future, io, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::{Id, JoinSet},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// A service stopped though nobody asked it to.
    #[error("{name} ended: {why}")]
    Service {
        /// The service.
        name: String,
        /// Its error, or that it returned or panicked.
        why: String,
    },
    /// Signals can't be received.
    #[error("signals can't be received: {0}")]
    Signals(#[from] std::io::Error),
    /// A second signal came before everything was finished.
    #[error("not finished, because of a second signal: {0}")]
    Hurried(String),
    /// Not everything finished in time.
    #[error("not finished within {0:?}: {1}")]
    NotDrained(Duration, String),
}

/// Does file work, which would hold up everything else, on a thread that is there for it.
///
/// # Errors
/// Those of the work; also when it panics.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Tasks of one service that end by themselves and concern nobody else, such as the connections of a server. A panic in one
/// ends that one only. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    /// Starts one.
    pub fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Returns when all of them have ended.
    pub async fn ended(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

/// Owns the services of a process.
pub struct Supervisor {
    services: JoinSet<Result<(), String>>,
    /// Those that go on until the others have finished.
    last: JoinSet<Result<(), String>>,
    names: HashMap<Id, String>,
    jobs: Jobs,
    broken: mpsc::UnboundedReceiver<String>,
    stop: CancellationToken,
    end: CancellationToken,
    drain_within: Duration,
}

/// Starts work that ends by itself, such as one pull. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    tracker: TaskTracker,
    stop: CancellationToken,
    broken: Arc<mpsc::UnboundedSender<String>>,
}

impl Supervisor {
    /// A supervisor that gives everything `drain_within` to finish once it is asked to.
    pub fn new(drain_within: Duration) -> Self {
        let stop = CancellationToken::new();
        let (sender, broken) = mpsc::unbounded_channel();
        let jobs = Jobs { tracker: TaskTracker::new(), stop: stop.clone(), broken: Arc::new(sender) };
        let (services, last, end) = (JoinSet::new(), JoinSet::new(), CancellationToken::new());
        Self { services, last, names: HashMap::new(), jobs, broken, stop, end, drain_within }
    }

    /// Cancelled when everything shall finish.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// For work that ends by itself.
    pub fn jobs(&self) -> Jobs {
        self.jobs.clone()
    }

    /// Starts a service: it runs until the stop token is cancelled.
    pub fn service<E: Display>(&mut self, name: &str, service: impl Future<Output = Result<(), E>> + Send + 'static) {
        let handle = self.services.spawn(async move { service.await.map_err(|error| error.to_string()) });
        self.names.insert(handle.id(), name.into());
    }

    /// Starts a service that tells about the others: it runs until they have finished, which it learns by `end_token`.
    pub fn last_service<E: Display>(
        &mut self,
        name: &str,
        service: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let handle = self.last.spawn(async move { service.await.map_err(|error| error.to_string()) });
        self.names.insert(handle.id(), name.into());
    }

    /// Cancelled when all but the last services have finished.
    pub fn end_token(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Runs until a signal comes or a service ends, then drains; a second signal ends that.
    ///
    /// # Errors
    /// Says which service ended by itself, or what didn't finish.
    pub async fn run(mut self) -> Result<(), Ended> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let ended = tokio::select! {
            _ = terminate.recv() => Ok("SIGTERM"),
            _ = interrupt.recv() => Ok("SIGINT"),
            Some(why) = self.broken.recv() => Err(Ended::Service { name: "a job".into(), why }),
            Some(ended) = self.services.join_next_with_id() => Err(self.describe(ended)),
            Some(ended) = self.last.join_next_with_id() => Err(self.describe(ended)),
        };
        match &ended {
            Ok(signal) => info!(signal, "finishing"),
            Err(why) => error!(%why, "finishing because a service ended"),
        }
        self.stop.cancel();
        let (limit, hurry) = (self.drain_within, async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        });
        let drained = tokio::select! {
            () = self.drain() => Ok(()),
            () = hurry => Err(Ended::Hurried(self.left())),
            () = tokio::time::sleep(limit) => Err(Ended::NotDrained(limit, self.left())),
        };
        ended.map(drop).and(drained)
    }

    async fn drain(&mut self) {
        self.jobs.tracker.close();
        finish(&mut self.services, &mut self.names).await;
        self.jobs.tracker.wait().await;
        self.end.cancel();
        finish(&mut self.last, &mut self.names).await;
    }

    /// What is not finished.
    fn left(&self) -> String {
        let jobs = format!("{} jobs", self.jobs.tracker.len());
        self.names.values().cloned().chain([jobs]).collect::<Vec<_>>().join(", ")
    }

    fn describe(&self, ended: Result<(Id, Result<(), String>), tokio::task::JoinError>) -> Ended {
        let (id, why) = match ended {
            Ok((id, Ok(()))) => (id, "it returned".into()),
            Ok((id, Err(error))) => (id, error),
            Err(panic) => (panic.id(), panic.to_string()),
        };
        Ended::Service { name: self.names.get(&id).cloned().unwrap_or_default(), why }
    }
}

async fn finish(services: &mut JoinSet<Result<(), String>>, names: &mut HashMap<Id, String>) {
    while let Some(ended) = services.join_next_with_id().await {
        let id = match ended {
            Ok((id, _)) => id,
            Err(panic) => {
                warn!(%panic, "a service panicked while finishing");
                panic.id()
            }
        };
        names.remove(&id);
    }
}

impl Jobs {
    /// Starts a job. It is dropped, at an await point, when `cancel` or the process stops; a panic in it ends the process.
    pub fn start(&self, cancel: CancellationToken, job: impl Future<Output = ()> + Send + 'static) {
        let (stop, broken) = (self.stop.clone(), self.broken.clone());
        let work = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = cancel.cancelled() => {}
                () = job => {}
            }
        };
        let task = self.tracker.spawn(work);
        self.tracker.spawn(async move {
            if let Err(panic) = task.await {
                // Nobody listens any more only when the process is ending anyway.
                let _ = broken.send(panic.to_string());
            }
        });
    }
}
