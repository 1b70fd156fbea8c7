//! Who set a field, by the managers that the API notes.

use drover::controller::deployment::authors::authors;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

fn meta(entries: Value) -> ObjectMeta {
    serde_json::from_value(json!({ "managedFields": entries })).expect("metadata")
}

fn entry(manager: &str, time: &str, fields: Value) -> Value {
    json!({"manager": manager, "operation": "Update", "apiVersion": "drover.dev/v1alpha1", "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields})
}

#[test]
fn each_field_has_the_manager_who_wrote_it_last_and_none_where_nobody_is_noted() {
    let found = authors(&meta(json!([
        entry("git", "2026-01-01T00:00:00Z", json!({"f:spec": {"f:version": {}, "f:paused": {}}})),
        entry("kubectl-edit", "2026-01-01T00:00:01Z", json!({"f:spec": {"f:version": {}}})),
        entry(
            "drover-cli",
            "2026-01-01T00:00:02Z",
            json!({"f:metadata": {"f:annotations": {".": {}, "f:drover.dev/undo": {}}}})
        ),
    ])));
    assert_eq!(found.version.as_deref(), Some("kubectl-edit (unverified)"));
    assert_eq!(found.paused.as_deref(), Some("git (unverified)"));
    assert_eq!(found.undo.as_deref(), Some("drover-cli (unverified)"));
    assert_eq!([found.promote, found.abort, found.retry, found.pause], [None, None, None, None]);
}

#[test]
fn whoever_writes_statuses_has_asked_for_nothing() {
    let mut of_status = entry("drover-controller", "2026-01-02T00:00:00Z", json!({"f:spec": {"f:version": {}}}));
    of_status["subresource"] = json!("status");
    let entries = json!([of_status, entry("git", "2026-01-01T00:00:00Z", json!({"f:spec": {"f:version": {}}}))]);
    assert_eq!(authors(&meta(entries)).version.as_deref(), Some("git (unverified)"));
    assert_eq!(authors(&ObjectMeta::default()).version, None);
}
