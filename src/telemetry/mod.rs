//! Logs, metrics, traces and the health port.

mod health;
mod metrics;
mod process;
mod traces;

pub use health::{Health, Readiness};
pub use metrics::Metrics;
pub use traces::Traces;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;

/// Sends log lines to stderr.
///
/// # Errors
/// When `level` is not a filter, or logs go somewhere already.
pub fn start_logs(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("log-level = {level:?}: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
