//! Parameters of a Modelfile as Ollama keeps them: JSON values, each of the kind that its name has.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

/// Parameters by name.
pub type Parameters = BTreeMap<String, Value>;

const WHOLE: [&str; 10] = [
    "num_keep",
    "seed",
    "num_predict",
    "top_k",
    "repeat_last_n",
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
];
const FRACTIONS: [&str; 7] =
    ["top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"];
const FLAGS: [&str; 1] = ["use_mmap"];
const LISTS: [&str; 1] = ["stop"];
/// Ollama reads these and does nothing with them.
const GONE: [&str; 9] = [
    "penalize_newline",
    "low_vram",
    "f16_kv",
    "logits_all",
    "vocab_only",
    "use_mlock",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
];

/// The values of `PARAMETER` lines; those that have no effect any more are left out, and named in `warnings`.
///
/// # Errors
/// Names the parameter that is unknown or has a bad value.
pub fn read(lines: &[(String, String)], warnings: &mut Vec<String>) -> Result<Parameters, String> {
    let mut parameters = Parameters::new();
    for (name, text) in lines {
        if GONE.contains(&name.as_str()) {
            warnings.push(format!("PARAMETER {name} has no effect any more and is left out"));
            continue;
        }
        let value = value(name, text)?;
        match (parameters.get_mut(name), value) {
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
            (_, value) => _ = parameters.insert(name.clone(), value),
        }
    }
    Ok(parameters)
}

fn value(name: &str, text: &str) -> Result<Value, String> {
    let fault = |kind: &str| format!("PARAMETER {name} {text}: write {kind}");
    if WHOLE.contains(&name) {
        return text.parse::<i64>().map(Value::from).map_err(|_| fault("a whole number"));
    }
    if FRACTIONS.contains(&name) {
        // Ollama keeps as many digits as its own numbers have.
        let number = text.parse::<f32>().ok().and_then(|number| number.to_string().parse::<f64>().ok());
        return number.and_then(Number::from_f64).map(number_value).ok_or_else(|| fault("a number"));
    }
    if FLAGS.contains(&name) {
        return match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true.into()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false.into()),
            _ => Err(fault("true or false")),
        };
    }
    match LISTS.contains(&name) {
        true => Ok(vec![text.to_owned()].into()),
        false => Err(format!("PARAMETER {name}: there is no such parameter")),
    }
}

fn number_value(number: Number) -> Value {
    let whole = number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() < 1e15);
    whole.map_or(Value::Number(number), |whole| Value::from(whole as i64))
}
