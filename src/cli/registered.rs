//! The versions and deployments of a namespace, as commands look at them.

use std::{cmp::Ordering, collections::BTreeMap};

use kube::{ResourceExt, api::ListParams};
use regex::Regex;

use super::client;
use crate::{
    api::{HasConditions, MODEL_PATTERN, ModelDeployment, ModelVersion},
    cluster::{self, Client, Kind},
    domain::{
        conditions::{Condition, READY},
        registry::ModelRecord,
        rollout::State,
        version,
    },
};

/// What is registered in a namespace.
pub struct Registered {
    /// How it was asked for.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    versions: Vec<ModelVersion>,
    deployments: Vec<ModelDeployment>,
}

impl Registered {
    /// Asks for it; without a namespace, in the kubeconfig's.
    ///
    /// # Errors
    /// Why it can't be had.
    pub async fn load(namespace: Option<&str>) -> Result<Self, String> {
        let client = client::connect().await?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
        Self::of(client, namespace).await
    }

    /// The same anew.
    ///
    /// # Errors
    /// Why it can't be had.
    pub async fn again(&self) -> Result<Self, String> {
        Self::of(self.client.clone(), self.namespace.clone()).await
    }

    async fn of(client: Client, namespace: String) -> Result<Self, String> {
        let (versions, deployments) = tokio::try_join!(list(&client, &namespace), list(&client, &namespace))?;
        let mut registered = Self { client, namespace, versions, deployments };
        registered.versions.sort_by(|a, b| {
            let newest_first = version::compare(&b.spec.version, &a.spec.version).unwrap_or(Ordering::Equal);
            a.spec.model.cmp(&b.spec.model).then(newest_first).then_with(|| age(a).cmp(&age(b)))
        });
        registered.deployments.sort_by_key(age);
        Ok(registered)
    }

    /// The names of the models.
    pub fn models(&self) -> Vec<&str> {
        let mut models: Vec<&str> = self.versions.iter().map(|version| &*version.spec.model).collect();
        models.dedup();
        models
    }

    /// Every version, by model, the newest first.
    pub fn versions(&self) -> impl Iterator<Item = &ModelVersion> {
        self.versions.iter()
    }

    /// The versions of one model, the newest first.
    pub fn of_model(&self, model: &str) -> impl Iterator<Item = &ModelVersion> {
        self.versions.iter().filter(move |version| version.spec.model == model)
    }

    /// The versions of one model, of which there is one at least.
    ///
    /// # Errors
    /// When there is none.
    pub fn known(&self, model: &str) -> Result<Vec<&ModelVersion>, String> {
        let versions: Vec<_> = self.of_model(model).collect();
        let none =
            || format!("no ModelVersion of {model} in namespace {}: `drover versions list` shows all", self.namespace);
        if versions.is_empty() { Err(none()) } else { Ok(versions) }
    }

    /// One version, if it is registered; of two objects that claim to be it, the older one.
    pub fn find(&self, model: &str, version: &str) -> Option<&ModelVersion> {
        self.of_model(model).find(|found| found.spec.version == version)
    }

    /// One version.
    ///
    /// # Errors
    /// When it isn't registered.
    pub fn version(&self, model: &str, version: &str) -> Result<&ModelVersion, String> {
        self.known(model)?;
        self.find(model, version).ok_or_else(|| {
            format!("{model} has no version {version}: `drover versions list {model}` shows which it has")
        })
    }

    /// The deployment that serves a model: the oldest one.
    pub fn deployment(&self, model: &str) -> Option<&ModelDeployment> {
        self.deployments.iter().find(|deployment| deployment.spec.model == model)
    }

    /// Its rollout.
    pub fn rollout(&self, model: &str) -> Option<&State> {
        Some(&self.deployment(model)?.status.as_ref()?.rollout)
    }

    /// A model as files have it.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub fn record(&self, model: &str) -> Result<ModelRecord, String> {
        let mut records = BTreeMap::new();
        for version in self.of_model(model) {
            let record = version.record(version.stage()).map_err(|error| error.to_string())?;
            records.entry(version.spec.version.clone()).or_insert(record);
        }
        Ok(ModelRecord::new(self.rollout(model), records))
    }
}

async fn list<K: Kind>(client: &Client, namespace: &str) -> Result<Vec<K>, String> {
    let api = cluster::api::<K>(client, Some(namespace));
    let listed = api.list(&ListParams::default()).await;
    listed.map(|list| list.items).map_err(|error| format!("{}: {error}", K::plural(&())))
}

fn age<K: Kind>(object: &K) -> (Option<jiff::Timestamp>, String) {
    (object.creation_timestamp().map(|time| time.0), object.name_any())
}

/// The condition that says whether an object does what it should.
pub fn ready(object: &impl HasConditions) -> Option<&Condition> {
    object.conditions().iter().find(|condition| condition.type_ == READY)
}

/// A version on the command line.
///
/// # Errors
/// What a version looks like.
pub fn version(text: &str) -> Result<String, String> {
    if version::is_version(text) { Ok(text.into()) } else { Err(version::FORM.into()) }
}

/// A model's name on the command line.
///
/// # Errors
/// What it looks like.
pub fn model(text: &str) -> Result<String, String> {
    let fits = Regex::new(MODEL_PATTERN).is_ok_and(|pattern| pattern.is_match(text)) && text.len() <= 63;
    let form = "a model looks like support-bot: small letters, digits and -, at most 63";
    if fits { Ok(text.into()) } else { Err(form.into()) }
}
