//! Rules in CEL, also those that compare with the object before.

use kube_cel::{
    CompiledSchema, ErrorKind, Validator,
    cel::common::ast::{EntryExpr, Expr},
};
use serde_json::Value;

use crate::standalone::{partial::Fields, status::Cause};

/// The rules of a schema.
#[derive(Debug)]
pub struct Rules {
    /// The rules, read.
    pub compiled: CompiledSchema,
    /// What they look at: only that is turned into values of CEL, which takes longer than most rules.
    looked_at: Fields,
}

impl Rules {
    /// Finds out what rules look at.
    pub fn new(compiled: CompiledSchema) -> Self {
        let mut looked_at = Fields::default();
        note(&compiled, &mut Vec::new(), &mut looked_at);
        Self { compiled, looked_at }
    }

    /// Every rule that the object breaks.
    pub fn check(&self, object: &Value, before: Option<&Value>) -> Vec<Cause> {
        thread_local! {
            static VALIDATOR: Validator = Validator::new();
        }
        let (object, before) = (self.looked_at.pick(object), before.map(|before| self.looked_at.pick(before)));
        let checked = VALIDATOR.with(|validator| validator.validate_compiled(&self.compiled, &object, before.as_ref()));
        let causes = checked.err().into_iter().flatten().map(|error| {
            let detail = match error.kind {
                ErrorKind::ValidationFailure => error.message,
                _ => format!("{} (rule: {})", error.message, error.rule),
            };
            let given = scalar(&object, &error.field_path);
            let field = if error.field_path.is_empty() { "<nil>".into() } else { error.field_path };
            match given {
                Some(given) => Cause::invalid(field, given, &detail),
                None => Cause { reason: "FieldValueInvalid", field, message: format!("Invalid value: {detail}") },
            }
        });
        causes.collect()
    }
}

/// What is at a path such as `spec.steps[2].weight`, unless it is a list or a map, which an API server doesn't repeat.
fn scalar<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
    object.pointer(&pointer).filter(|value| value.is_string() || value.is_number() || value.is_boolean())
}

/// Notes what the rules of a schema and of all below it look at; returns whether there are any.
fn note(rules: &CompiledSchema, path: &mut Vec<String>, fields: &mut Fields) -> bool {
    let mut any = !rules.validations.is_empty();
    for rule in rules.validations.iter().flatten() {
        let programs = [Some(&rule.program), rule.message_program.as_ref()];
        let mut found = Vec::new();
        programs.into_iter().flatten().for_each(|program| look(&program.expression().expr, &[], &mut found));
        if found.is_empty() {
            found.push(Vec::new());
        }
        found.iter().for_each(|found| fields.add(&[path.as_slice(), found].concat()));
    }
    for (name, below) in &rules.properties {
        path.push(name.clone());
        any |= note(below, path, fields);
        path.pop();
    }
    let parts = rules.items.as_deref().into_iter().chain(rules.additional_properties.as_deref());
    let mut parts = parts.chain(&rules.all_of).chain(&rules.one_of).chain(&rules.any_of);
    // Which items or keys there are is not known: all of them.
    let in_parts = parts.any(|part| note(part, &mut Vec::new(), &mut Fields::default()));
    if in_parts {
        fields.add(path);
    }
    any || in_parts
}

/// Finds the paths below `self` and `oldSelf` that an expression names; `below` is what it names of this one.
fn look(expression: &Expr, below: &[String], found: &mut Vec<Vec<String>>) {
    match expression {
        Expr::Ident(name) if name == "self" || name == "oldSelf" => found.push(below.to_vec()),
        // CEL writes some names in another way, as `__namespace__`.
        Expr::Select(select) if select.field.contains("__") => look(&select.operand.expr, &[], found),
        Expr::Select(select) => {
            let path = [std::slice::from_ref(&select.field), below].concat();
            look(&select.operand.expr, &path, found);
        }
        other => parts(other).into_iter().for_each(|part| look(part, &[], found)),
    }
}

fn parts(expression: &Expr) -> Vec<&Expr> {
    fn entries(entry: &EntryExpr) -> Vec<&Expr> {
        match entry {
            EntryExpr::StructField(field) => vec![&field.value.expr],
            EntryExpr::MapEntry(entry) => vec![&entry.key.expr, &entry.value.expr],
        }
    }
    match expression {
        Expr::Call(call) => {
            call.target.iter().map(|target| &target.expr).chain(call.args.iter().map(|arg| &arg.expr)).collect()
        }
        Expr::Comprehension(all) => {
            [&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result].map(|part| &part.expr).into()
        }
        Expr::List(list) => list.elements.iter().map(|element| &element.expr).collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entries(&entry.expr)).collect(),
        Expr::Struct(fields) => fields.entries.iter().flat_map(|entry| entries(&entry.expr)).collect(),
        Expr::Select(select) => vec![&select.operand.expr],
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}
