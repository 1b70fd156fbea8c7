//! The order in which requests that can all go on do so.

use std::{future::poll_fn, task::Poll};

/// Lets every other request that can go on do so first.
///
/// Awaited before something is sent: what a worker has to send then leaves in one go. The other end is woken for the first
/// piece and still there for the next ones; woken for each alone, that would cost more than the sending.
pub async fn give_way() {
    let mut has_given = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
