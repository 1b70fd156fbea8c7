//! Strategic merge patch: like a merge patch, but lists that the schema says so of are merged item by item, and
//! directives (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…`, `$setElementOrder/…`) say more.

use serde_json::{Map, Value};

use crate::standalone::{schema::Schema, status::Failure};

/// The value after the patch.
///
/// # Errors
/// 400 for an unknown directive, or items without their key.
pub fn strategic_merge(target: &Value, patch: &Value, schema: Schema<'_>) -> Result<Value, Failure> {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => merge_maps(target, patch, schema).map(Value::Object),
        (_, Value::Object(patch)) => merge_maps(&Map::new(), patch, schema).map(Value::Object),
        _ => Ok(patch.clone()),
    }
}

fn merge_maps(
    target: &Map<String, Value>,
    patch: &Map<String, Value>,
    schema: Schema<'_>,
) -> Result<Map<String, Value>, Failure> {
    match patch.get("$patch").and_then(Value::as_str) {
        None | Some("merge") => {}
        Some("replace") => {
            return Ok(patch
                .iter()
                .filter(|(name, _)| *name != "$patch")
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect());
        }
        Some("delete") => return Ok(Map::new()),
        Some(other) => return Err(Failure::bad_request(format!("invalid value for $patch: {other}"))),
    }
    let mut merged = target.clone();
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        merged.retain(|name, _| kept.iter().any(|kept| kept == name));
    }
    for (name, value) in patch {
        if matches!(name.as_str(), "$patch" | "$retainKeys") || name.starts_with("$setElementOrder/") {
            continue;
        }
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            remove_values(&mut merged, list, value);
        } else if value.is_null() {
            merged.shift_remove(name);
        } else {
            let inner = schema.field(name);
            let order = patch.get(&format!("$setElementOrder/{name}"));
            let before = merged.get(name).unwrap_or(&Value::Null);
            let after = merge_field(before, value, inner, order)?;
            merged.insert(name.clone(), after);
        }
    }
    for (name, order) in patch {
        let list = name.strip_prefix("$setElementOrder/").filter(|list| !patch.contains_key(*list));
        if let Some(list) = list
            && let Some(Value::Array(items)) = merged.get_mut(list)
        {
            let (before, order) = (items.clone(), order.as_array().map_or(&[][..], Vec::as_slice));
            arrange(items, order, &before, schema.field(list).patch_strategy().1);
        }
    }
    Ok(merged)
}

fn remove_values(merged: &mut Map<String, Value>, list: &str, removed: &Value) {
    if let (Some(Value::Array(items)), Some(removed)) = (merged.get_mut(list), removed.as_array()) {
        items.retain(|item| !removed.contains(item));
    }
}

fn merge_field(before: &Value, patch: &Value, schema: Schema<'_>, order: Option<&Value>) -> Result<Value, Failure> {
    let Value::Array(patch_items) = patch else { return strategic_merge(before, patch, schema) };
    let (strategy, key) = schema.patch_strategy();
    if !strategy.is_some_and(|strategy| strategy.split(',').any(|word| word == "merge")) {
        return Ok(patch.clone());
    }
    let mut items = before.as_array().cloned().unwrap_or_default();
    match key {
        Some(key) => merge_items(&mut items, patch_items, key, schema.items())?,
        None => {
            for item in patch_items {
                if !items.contains(item) {
                    items.push(item.clone());
                }
            }
        }
    }
    let order = order.and_then(Value::as_array).unwrap_or(patch_items);
    let before = before.as_array().map_or(&[][..], Vec::as_slice);
    arrange(&mut items, order, before, key);
    Ok(Value::Array(items))
}

fn merge_items(items: &mut Vec<Value>, patch: &[Value], key: &str, schema: Schema<'_>) -> Result<(), Failure> {
    if patch.iter().any(|item| item["$patch"] == "replace") {
        *items = patch.iter().filter(|item| item.get(key).is_some()).map(without_directive).collect();
        return Ok(());
    }
    for item in patch {
        let id = item
            .get(key)
            .ok_or_else(|| Failure::bad_request(format!("map: {item} does not contain declared merge key: {key}")))?;
        let at = items.iter().position(|known| known.get(key) == Some(id));
        match (at, item["$patch"].as_str()) {
            (_, Some("delete")) => items.retain(|known| known.get(key) != Some(id)),
            (Some(at), _) => items[at] = strategic_merge(&items[at], item, schema)?,
            (None, _) => items.push(strategic_merge(&Value::Null, item, schema)?),
        }
    }
    Ok(())
}

fn without_directive(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(fields) = item.as_object_mut() {
        fields.shift_remove("$patch");
    }
    item
}

/// Puts items into the order of a list of keys or values. Others keep their order, and each stays before the first one
/// that it was before.
fn arrange(items: &mut Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) {
    let id = |item: &Value| key.map_or_else(|| item.clone(), |key| item[key].clone());
    let place = |list: &[Value], item: &Value| list.iter().position(|known| id(known) == id(item));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        items.drain(..).partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    others.sort_by_key(|item| place(before, item));
    let mut others = others.into_iter().peekable();
    for item in named {
        let then = place(before, &item);
        let goes_first = |other: &Value| place(before, other).zip(then).is_some_and(|(other, item)| other < item);
        while let Some(other) = others.next_if(goes_first) {
            items.push(other);
        }
        items.push(item);
    }
    items.extend(others);
}
