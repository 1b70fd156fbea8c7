//! The order in which requests that can all go on do so.

/// Lets every other request that can go on do so first.
///
/// Awaited before something is sent: what a worker has to send then leaves in one go. The other end is woken for the first
/// piece and still there for the next ones; woken for each alone, that would cost more than the sending. (To wake this task
/// at once instead would make a worker that sleeps come for it.)
pub async fn give_way() {
    tokio::task::yield_now().await;
}
