//! JSON patch, RFC 6902.

use serde_json::Value;

use crate::standalone::status::Failure;

/// The object after the patch.
///
/// # Errors
/// 400 when it isn't one, 422 when it doesn't fit the object.
pub fn json_patch(object: &Value, patch: Value) -> Result<Value, Failure> {
    let unreadable = |error: serde_json::Error| Failure::bad_request(format!("error decoding patch: {error}"));
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(unreadable)?;
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &patch)
        .map_err(|_| Failure::unprocessable("the server rejected our request due to an error in our request"))?;
    Ok(patched)
}
