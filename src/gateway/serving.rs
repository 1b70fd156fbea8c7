//! A table as this gateway serves it: beside each target, what requests for it need again and again.

use std::{
    collections::HashMap,
    ptr,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

use serde_json::Value;

use super::{
    balance::{Balance, Pool},
    callers::KnownKeys,
    counter::Counter,
    fields::json,
    lines::Renamer,
    meters::ModelMeters,
    schema::SchemaCheck,
    task::Task,
};
use crate::{
    domain::directory::Step,
    routing_table::{Namespace, RoutingTable, Target},
};

/// One table, and what was worked out for it so far. A request keeps one to its end.
#[derive(Default)]
pub struct Serving {
    table: Arc<RoutingTable>,
    keys: KnownKeys,
    /// By the address of the target, which doesn't move while the table is there.
    targets: HashMap<usize, Served>,
    /// By the address of the step, in the same way.
    checks: HashMap<usize, OnceLock<Check>>,
}

/// By what the answers of a step are checked, or why they can't be.
type Check = Result<Option<Arc<SchemaCheck>>, String>;

/// Found when it is first needed: most targets of a big table aren't, before the next table comes.
#[derive(Default)]
struct Served {
    pool: OnceLock<Arc<Pool>>,
    renamer: OnceLock<Arc<Renamer>>,
    counter: OnceLock<Arc<Counter>>,
    turns: OnceLock<Arc<AtomicU64>>,
    /// By task.
    meters: [OnceLock<Arc<ModelMeters>>; Task::COUNT],
}

impl Serving {
    /// Nothing is worked out yet.
    pub fn new(table: Arc<RoutingTable>, keys: KnownKeys) -> Self {
        let targets = table.namespaces.values().flat_map(Namespace::targets);
        let targets = targets.map(|target| (address(target), Served::default())).collect();
        let chains = table.namespaces.values().flat_map(|namespace| namespace.directory.chains.values());
        let steps = chains.flat_map(|chain| &chain.steps).filter(|step| step.schema.is_some());
        let checks = steps.map(|step| (address(step), OnceLock::new())).collect();
        Self { table, keys, targets, checks }
    }

    /// The table.
    pub fn table(&self) -> &Arc<RoutingTable> {
        &self.table
    }

    /// The callers' keys.
    pub fn keys(&self) -> &KnownKeys {
        &self.keys
    }

    /// The nodes that hold a target, prepared for choices among them.
    pub fn pool(&self, target: &Target, balance: &Balance) -> Arc<Pool> {
        self.known(target, |served| &served.pool, || balance.pool(&target.holders))
    }

    /// What replaces the name that the nodes know a target by.
    pub fn renamer(&self, target: &Target) -> Arc<Renamer> {
        self.known(target, |served| &served.renamer, || Arc::new(Renamer::new(&target.model, &target.tag)))
    }

    /// Where a version's attempts are counted.
    pub fn counter(&self, target: &Target, find: impl FnOnce() -> Arc<Counter>) -> Arc<Counter> {
        self.known(target, |served| &served.counter, find)
    }

    /// Where the requests are counted that a canary gets its share of.
    pub fn turns(&self, canary: &Target, find: impl FnOnce() -> Arc<AtomicU64>) -> Arc<AtomicU64> {
        self.known(canary, |served| &served.turns, find)
    }

    /// Where requests with this task are counted.
    pub fn meters(&self, target: &Target, task: Task, find: impl FnOnce() -> Arc<ModelMeters>) -> Arc<ModelMeters> {
        self.known(target, |served| &served.meters[task as usize], find)
    }

    /// By what the answers of a chain's step are checked, besides what requests say.
    ///
    /// # Errors
    /// That its schema is none.
    pub fn check(&self, step: &Step<Value>) -> Result<Option<Arc<SchemaCheck>>, String> {
        let read = || match &step.schema {
            Some(schema) => Ok(SchemaCheck::of(&json(schema))?.map(Arc::new)),
            None => Ok(None),
        };
        match self.checks.get(&address(step)) {
            Some(check) => check.get_or_init(read).clone(),
            None => read(),
        }
    }

    fn known<T>(
        &self,
        target: &Target,
        cell: impl FnOnce(&Served) -> &OnceLock<Arc<T>>,
        find: impl FnOnce() -> Arc<T>,
    ) -> Arc<T> {
        match self.targets.get(&address(target)) {
            Some(served) => cell(served).get_or_init(find).clone(),
            None => find(),
        }
    }
}

fn address<T>(part: &T) -> usize {
    ptr::from_ref(part).addr()
}
