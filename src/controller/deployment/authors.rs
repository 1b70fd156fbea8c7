//! Who set what a decision rests on, as `metadata.managedFields` has it: pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use crate::{
    api::{ANNOTATION_ABORT, ANNOTATION_PAUSE, ANNOTATION_PROMOTE, ANNOTATION_RETRY, ANNOTATION_UNDO},
    domain::rollout::Authors,
};

/// The managers of the fields that decisions rest on. Whoever writes can call itself what it likes, so they are marked
/// as unverified.
pub fn authors(meta: &ObjectMeta) -> Authors {
    let entries = meta.managed_fields.as_deref().unwrap_or_default();
    let of_spec = |field: &str| manager(entries, &["f:spec", &format!("f:{field}")]);
    let of_command = |name: &str| manager(entries, &["f:metadata", "f:annotations", &format!("f:{name}")]);
    Authors {
        version: of_spec("version"),
        paused: of_spec("paused"),
        promote: of_command(ANNOTATION_PROMOTE),
        undo: of_command(ANNOTATION_UNDO),
        abort: of_command(ANNOTATION_ABORT),
        retry: of_command(ANNOTATION_RETRY),
        pause: of_command(ANNOTATION_PAUSE),
    }
}

/// Who owns a field; of several that share it, who wrote last.
fn manager(entries: &[ManagedFieldsEntry], path: &[&str]) -> Option<String> {
    let owns = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        path.iter().try_fold(fields?, |fields, part| fields.get(*part)).map(|_| ())
    };
    // Statuses are Drover's own.
    let owners = entries.iter().filter(|entry| entry.subresource.is_none() && owns(entry).is_some());
    let last = owners.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    last.manager.as_ref().map(|manager| format!("{manager} (unverified)"))
}
