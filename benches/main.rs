//! `make bench`: how Drover keeps to its goals of speed, on real parts, in one table. Without arguments every part runs;
//! with names of parts, those.

#[path = "../tests/support/mod.rs"]
mod support;
#[allow(dead_code, unused_imports, unused_macros)] // the scenarios use the rest of it
#[path = "../tests/cluster/world.rs"]
mod world;

mod analysis;
mod fleet;
mod gateway;
mod health;
mod load;
mod machine;
mod mirror;
mod nginx;
mod records;
mod rollback;
mod routing;
mod scale;
mod sessions;
mod standalone;
mod table;

use table::Table;

fn main() {
    if standalone::serve() || gateway::is_helper() {
        return;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut table = Table::default();
    if wants("scale") {
        runtime.block_on(scale::run(&mut table));
    }
    if wants("mirror") {
        runtime.block_on(mirror::run(&mut table));
    }
    if wants("health") {
        runtime.block_on(health::run(&mut table));
    }
    if wants("standalone") {
        runtime.block_on(standalone::run(&mut table));
    }
    if wants("gateway") {
        runtime.block_on(gateway::run(&mut table));
    }
    // It explains others, and needs tools that these don't.
    if wanted.iter().any(|name| name == "floor") {
        runtime.block_on(gateway::floor::run(&mut table));
    }
    if wants("records") {
        runtime.block_on(records::run(&mut table));
    }
    if wants("rollback") {
        runtime.block_on(rollback::run(&mut table));
    }
    if wants("routing") {
        routing::run(&mut table);
        runtime.block_on(gateway::hops::run(&mut table));
    }
    if wants("analysis") {
        analysis::run(&mut table);
    }
    print!("{table}");
}
