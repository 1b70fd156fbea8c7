//! How long to wait before the next try.

use std::time::Duration;

/// The wait before try number `failures + 1`: `first` doubled for every earlier failure, at most `ceiling`, spread by
/// `jitter` (0.0..=1.0, drawn by the caller) over the upper half so that many waiters don't come back together.
pub fn delay(failures: u32, first: Duration, ceiling: Duration, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(30)));
    doubled.min(ceiling).mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}
