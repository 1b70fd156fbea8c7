//! Server-side apply: what a manager applies is merged into the object; what it applied before and no longer does goes,
//! unless somebody else owns it; what others own with another value is a conflict.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    fields::{Set, Step, children, compare, item_step},
    last_applied,
    managed::{Manager, Managers, Owned, owned_part},
};
use crate::standalone::{
    schema::{Schema, Shape},
    status::Failure,
};

/// An object after an apply.
#[derive(Debug)]
pub struct Applied {
    /// The object.
    pub object: Value,
    /// Who owns what of it.
    pub managers: Managers,
}

/// What is applied.
#[derive(Debug)]
pub struct Apply<'a> {
    /// The object, with the fields that its writer means.
    pub config: &'a Value,
    /// Who applies it.
    pub manager: &'a Manager,
    /// Whether fields of others are taken over.
    pub force: bool,
    /// Fields that this request can't set.
    pub reset: &'a [&'a str],
    /// The time.
    pub now: &'a str,
}

/// Applies to `live`, which is null where there is no object yet.
///
/// # Errors
/// 409 when others own fields with other values, unless it is forced.
pub fn apply(
    live: &Value,
    mut managers: Managers,
    request: &Apply<'_>,
    schema: Schema<'_>,
) -> Result<Applied, Failure> {
    let Apply { config, manager, force, reset, now } = *request;
    let last = managers.fields_of(manager).cloned();
    let merged = merge(live, config, schema);
    let mut meant = owned_part(Set::of(config, schema));
    reset.iter().for_each(|field| meant.remove(&[field]));
    let time = managers.0.iter().find(|owned| owned.manager == *manager).and_then(|owned| owned.time.clone());
    managers.set(manager, meant, time);
    let mut object = merged;
    // Who applies the same fields again gives up none.
    if let Some(last) = last.filter(|last| managers.fields_of(manager) != Some(last)) {
        // The name is in everything that is applied, though nobody is noted as its owner.
        let named = Set::of(&json!({ "metadata": { "name": "" } }), schema);
        let kept = managers.0.iter().fold(named, |kept, owned| kept.union(owned.fields.clone()));
        remove(&mut object, &last, &kept, schema);
    }
    let difference = compare(live, &object, schema);
    let changed = difference.added.union(difference.modified);
    let noted = last_applied::noted(live, &manager.name, schema);
    if !force {
        let others = managers.0.iter().filter(|owned| owned.manager != *manager);
        let conflicts: Vec<_> = others
            .map(|owned| (owned, owned.fields.intersection(&changed).difference(&noted)))
            .filter(|(_, fields)| !fields.is_empty())
            .collect();
        if !conflicts.is_empty() {
            return Err(conflict(conflicts));
        }
    }
    for owned in managers.0.iter_mut().filter(|owned| owned.manager != *manager) {
        owned.fields.subtract(&changed);
        owned.fields.subtract(&difference.removed);
    }
    last_applied::renew(&mut object, config, &manager.name);
    if !(changed.is_empty() && difference.removed.is_empty()) {
        let mine = managers.fields_of(manager).cloned().unwrap_or_default();
        managers.set(manager, mine, Some(now.to_owned()));
    }
    Ok(Applied { object, managers })
}

fn conflict(mut conflicts: Vec<(&Owned, Set)>) -> Failure {
    conflicts.sort_by(|(a, _), (b, _)| a.rank().cmp(&b.rank()));
    let named = conflicts.into_iter().map(|(owned, fields)| (owned.manager.label(), fields.paths()));
    let conflicts: Vec<_> = named.collect();
    let causes: Vec<_> = conflicts
        .iter()
        .flat_map(|(owner, paths)| paths.iter().map(move |path| (owner.clone(), path.clone())))
        .collect();
    let message = match &causes[..] {
        [(owner, path)] => format!("Apply failed with 1 conflict: conflict with {owner}: {path}"),
        _ => {
            let owners = conflicts.iter().map(|(owner, paths)| {
                let paths: String = paths.iter().map(|path| format!("\n- {path}")).collect();
                format!("conflicts with {owner}:{paths}")
            });
            let owners: Vec<_> = owners.collect();
            format!("Apply failed with {} conflicts: {}", causes.len(), owners.join("\n"))
        }
    };
    Failure::field_conflicts(message, &causes)
}

/// The live value with what is applied put in.
fn merge(live: &Value, config: &Value, schema: Schema<'_>) -> Value {
    match (live, config, schema.shape(config)) {
        (Value::Object(live), Value::Object(config), Shape::Map) => {
            let mut merged = live.clone();
            for (name, value) in config {
                let before = live.get(name).unwrap_or(&Value::Null);
                merged.insert(name.clone(), merge(before, value, schema.field(name)));
            }
            Value::Object(merged)
        }
        (Value::Array(live), Value::Array(config), shape @ (Shape::ListMap(_) | Shape::Set)) => {
            Value::Array(merge_items(live, config, &shape, schema.items()))
        }
        _ => config.clone(),
    }
}

/// Items in the order of what is applied, those that only the live list has before the first that comes after them.
fn merge_items(live: &[Value], config: &[Value], shape: &Shape, schema: Schema<'_>) -> Vec<Value> {
    let step = |item: &Value| item_step(item, shape, schema);
    let known: BTreeMap<Step, &Value> = live.iter().map(|item| (step(item), item)).collect();
    let wanted: BTreeSet<Step> = config.iter().map(step).collect();
    let (mut merged, mut done) = (Vec::new(), BTreeSet::new());
    let (mut live, mut config) = (live.iter().peekable(), config.iter().peekable());
    loop {
        if let Some(item) = live.next_if(|item| !wanted.contains(&step(item)) || done.contains(&step(item))) {
            if !wanted.contains(&step(item)) {
                merged.push(item.clone());
            }
        } else if let Some(item) = config.next() {
            let step = step(item);
            merged.push(merge(known.get(&step).copied().unwrap_or(&Value::Null), item, schema));
            done.insert(step);
        } else if live.next().is_none() {
            return merged;
        }
    }
}

/// Removes what is in `gone`, but for what is in `kept`. What becomes empty by it goes too.
fn remove(value: &mut Value, gone: &Set, kept: &Set, schema: Schema<'_>) {
    let inner: Vec<Step> = children(value, schema).into_keys().collect();
    for step in inner {
        let kept_below = kept.below(&step).cloned().unwrap_or_default();
        // What is named by the schema goes with all that is in it; an item or a key of a map only if it was meant itself.
        let is_named = step.strip_prefix("f:").is_some_and(|name| schema.declared(name).is_some());
        let goes = gone.has(&step) || (is_named && gone.touches(&step));
        // Who owns only something in an item doesn't keep it.
        let stays = kept.has(&step) || (is_named && kept.touches(&step));
        if goes && !stays {
            take(value, &step, schema);
        } else if let Some(gone_below) = gone.below(&step) {
            let emptied = part(value, &step, schema).is_some_and(|(part, schema)| {
                let was_empty = is_empty(part);
                remove(part, gone_below, &kept_below, schema);
                !was_empty && is_empty(part)
            });
            if emptied && !kept.has(&step) {
                take(value, &step, schema);
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

fn part<'v, 's>(value: &'v mut Value, step: &str, schema: Schema<'s>) -> Option<(&'v mut Value, Schema<'s>)> {
    let shape = schema.shape(value);
    match value {
        Value::Object(fields) => {
            let name = step.strip_prefix("f:")?;
            Some((fields.get_mut(name)?, schema.field(name)))
        }
        Value::Array(items) => {
            let inner = schema.items();
            items.iter_mut().find(|item| item_step(item, &shape, inner) == step).map(|item| (item, inner))
        }
        _ => None,
    }
}

fn take(value: &mut Value, step: &str, schema: Schema<'_>) {
    let shape = schema.shape(value);
    match value {
        Value::Object(fields) => {
            fields.shift_remove(step.strip_prefix("f:").unwrap_or_default());
        }
        Value::Array(items) => items.retain(|item| item_step(item, &shape, schema.items()) != step),
        _ => {}
    }
}
