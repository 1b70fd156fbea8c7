//! Five hundred rollouts that begin together and take each step together.

use std::time::{Duration, Instant};

use serde_json::json;

use super::stage::{MOST, Stage, VERSIONS};
use crate::{
    machine,
    support::kube_api::{Marker, Write},
    table::Table,
};

const STEP: &str = "10s";
const SECOND: Duration = Duration::from_secs(1);
const MOST_WRITES: f64 = 50.0;

pub async fn run(table: &mut Table) {
    let steps = json!([{"weight": 20, "duration": STEP}, {"weight": 50, "duration": STEP}]);
    let mut stage = Stage::with_steps(MOST, steps).await;
    let (before, start) = (stage.api.marker().await, Instant::now());
    let cpu_before = machine::cpu_time(stage.controller.process().pid());
    let mut seconds = Vec::new();
    let all = async {
        stage.ask_all_for(MOST, VERSIONS[1]).await;
        stage.until_all_serve(VERSIONS[1]).await;
    };
    tokio::select! {
        () = all => {}
        () = each_second(&stage, before, &mut seconds) => {}
    }
    let took = start.elapsed().as_secs_f64();
    let cpu = (machine::cpu_time(stage.controller.process().pid()) - cpu_before).as_secs_f64();
    let writes = own(&stage.api.writes_since(before).await);
    let rate = writes as f64 / took;
    let what = format!("{MOST} rollouts that take each of three steps together");
    table.note(format!("{what}: until all are live"), format!("{took:.0} s"));
    table.goal(format!("{what}: the controller uses less than a core"), format!("{:.2} cores", cpu / took), cpu < took);
    let busiest = seconds.iter().max().copied().unwrap_or_default();
    let figure = format!("{rate:.1} a second ({writes}); in the busiest second {busiest}");
    table.goal(format!("{what}: less than {MOST_WRITES} API writes a second"), figure, rate < MOST_WRITES);
}

/// Counts the writes of each second, without end.
async fn each_second(stage: &Stage, mut since: Marker, seconds: &mut Vec<usize>) {
    let mut ticks = tokio::time::interval(SECOND);
    loop {
        ticks.tick().await;
        let now = stage.api.marker().await;
        seconds.push(own(&stage.api.writes_between(since, now)));
        since = now;
    }
}

/// All but those by which the versions are asked for.
fn own(writes: &[Write]) -> usize {
    writes.iter().filter(|write| write.resource != "modeldeployments").count()
}
