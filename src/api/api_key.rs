use jiff::{Timestamp, civil::Date};
use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DIGEST_PATTERN, HasConditions, conditions_schema};
use crate::domain::{
    caller::{Limits, ModelPatterns},
    conditions::Condition,
    digest::Digest,
};

/// A caller of the gateways: the hash of its key, and what it may do.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "drover.dev",
    version = "v1alpha1",
    kind = "ApiKey",
    namespaced,
    status = "ApiKeyStatus",
    derive = "PartialEq",
    shortname = "akey",
    category = "drover",
    doc = "A caller of the gateways: the hash of its key, and what it may do.",
    printcolumn(name = "Requests/min", type_ = "integer", json_path = ".spec.requestsPerMinute"),
    printcolumn(name = "Tokens/min", type_ = "integer", json_path = ".spec.tokensPerMinute"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Last used", type_ = "string", json_path = ".status.lastUsedOn"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Models", type_ = "string", json_path = ".spec.models", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 128").message("metadata.name must have at most 128 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySpec {
    /// sha256 of the key; the key itself is nowhere. `drover keys create` makes both.
    #[schemars(regex(pattern = DIGEST_PATTERN))]
    pub hash: String,
    /// The models that it may be used for, by patterns such as `llama3.2:*`: names of deployments, and tags. Unset: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub models: Option<Vec<String>>,
    /// How much it may be used.
    #[serde(flatten)]
    pub limits: Limits,
    /// Until when it can be used. Unset: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires_at: Option<Timestamp>,
    /// Whether it can't be used for now.
    #[serde(default)]
    pub disabled: bool,
    /// Whether models may be pulled and deleted with it through a gateway that lets callers do that.
    #[serde(default)]
    pub allow_model_operations: bool,
}

/// What is known of a key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyStatus {
    /// The `metadata.generation` this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: it can be used.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The last day, in UTC, on which it was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_used_on: Option<Date>,
    /// How many gateways share its limits: each lets through an equal part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<u32>,
}

impl ApiKey {
    /// Of several keys with one hash in a namespace, the first in this order has it.
    pub fn seniority(&self) -> impl Ord + use<> {
        (self.creation_timestamp(), self.name_any())
    }

    /// The hash, and the patterns of models if there are any.
    ///
    /// # Errors
    /// What is wrong with the spec, for people.
    pub fn parsed(&self) -> Result<(Digest, Option<ModelPatterns>), String> {
        let hash = self.spec.hash.parse().map_err(|error| format!("spec.hash: {error}"))?;
        let patterns = self.spec.models.as_deref().map(ModelPatterns::new).transpose();
        Ok((hash, patterns.map_err(|error| format!("spec.models: {error}"))?))
    }
}

impl HasConditions for ApiKey {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}
