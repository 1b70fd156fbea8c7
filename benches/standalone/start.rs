//! How soon it answers, from the start of the process.

use std::path::Path;

use super::{milliseconds, sides::Embedded};
use crate::{
    support::kube_api::Disk,
    table::{Table, median},
};

const STARTS: usize = 5;

pub async fn run(table: &mut Table, full: &Path, fresh: &Path) {
    let (mut with_objects, mut with_none) = (Vec::new(), Vec::new());
    for round in 0..STARTS {
        with_objects.push(Embedded::start(full, Disk::NotWaitedFor).await.ready_after.as_secs_f64());
        with_none
            .push(Embedded::start(&fresh.join(round.to_string()), Disk::NotWaitedFor).await.ready_after.as_secs_f64());
    }
    for (what, seconds) in [("nothing", &with_none), ("10,000 objects and more", &with_objects)] {
        let goal = format!("from process to first answer, with {what} on disk: < 200 ms");
        table.goal(goal, format!("{} ms", milliseconds(seconds)), median(seconds) < 0.2);
    }
}
