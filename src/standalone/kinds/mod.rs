//! The kinds that are served: Kubernetes' own that Drover and its tools need, and whatever the given
//! CustomResourceDefinitions define. Nothing else in here knows one of Drover's kinds by name.

mod builtin;

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_cel::{CompiledSchema, compile_schema};
use serde_json::{Value, json};

use super::schema::Rules;

pub use builtin::{NAMESPACES, component, components};

/// A column of `kubectl get`.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its head.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// Where its value is, as JSONPath.
    pub path: String,
    /// 0 is always shown, others with `-o wide`.
    pub priority: i64,
    /// What it means.
    pub description: String,
}

/// One kind.
#[derive(Debug)]
pub struct Kind {
    /// The API group; empty for Kubernetes' core.
    pub group: String,
    /// The version.
    pub version: String,
    /// As in paths, such as `configmaps`.
    pub plural: String,
    /// In the singular, such as `configmap`.
    pub singular: String,
    /// As in objects, such as `ConfigMap`.
    pub kind: String,
    /// Short names for kubectl.
    pub short_names: Vec<String>,
    /// Groups of kinds that kubectl knows, such as `all`.
    pub categories: Vec<String>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether status is written apart.
    pub has_status: bool,
    /// Whether `metadata.generation` counts changes of the spec.
    pub has_generation: bool,
    /// Whether it comes from a CustomResourceDefinition.
    pub custom: bool,
    /// Whether it can't be written.
    pub read_only: bool,
    /// Whether an update may leave out what it is based on.
    pub unconditional: bool,
    /// Whether an update makes an object that isn't there.
    pub made_by_update: bool,
    /// Where its objects are stored, as `PLURAL.GROUP`.
    pub stored_as: Arc<str>,
    /// Columns besides the name.
    pub columns: Vec<Column>,
    /// The structural schema, without references.
    pub schema: Value,
    /// Its rules in CEL.
    pub rules: Rules,
    /// Whether there is any such rule.
    pub has_rules: bool,
    /// The name of its schema in OpenAPI.
    pub component: String,
}

impl Kind {
    /// `PLURAL.GROUP`, or `PLURAL` for the core group.
    pub fn resource(&self) -> String {
        dotted(&self.plural, &self.group)
    }

    /// `GROUP/VERSION`, or `VERSION` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of an object in storage.
    pub fn path(&self, namespace: Option<&str>, name: &str) -> String {
        match namespace {
            Some(namespace) if self.namespaced => format!("{namespace}/{name}"),
            _ => name.to_owned(),
        }
    }

    /// What may be asked of it.
    pub fn verbs(&self) -> &'static [&'static str] {
        match self {
            Self { read_only: true, .. } => &["get", "list", "watch"],
            // In the order in which Kubernetes lists them.
            Self { custom: true, .. } => {
                &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
            }
            _ if self.plural == NAMESPACES => &["create", "delete", "get", "list", "patch", "update", "watch"],
            _ => &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        }
    }

    /// Its subresources and what may be asked of them.
    pub fn subresources(&self) -> Vec<(&'static str, &'static [&'static str])> {
        let finalize = (self.plural == NAMESPACES).then_some(("finalize", &["update"][..]));
        let status = (self.has_status && !self.read_only).then_some(("status", &["get", "patch", "update"][..]));
        finalize.into_iter().chain(status).collect()
    }
}

fn dotted(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// All kinds.
#[derive(Debug)]
pub struct Kinds {
    all: Vec<Arc<Kind>>,
    definitions: Vec<Value>,
}

impl Kinds {
    /// Kubernetes' own, and those of `crds`.
    ///
    /// # Errors
    /// When a definition can't be used: which and why.
    pub fn new(crds: &[CustomResourceDefinition]) -> Result<Self, String> {
        let (mut defined_kinds, mut definitions) = (Vec::new(), Vec::new());
        for crd in crds {
            let mut definition = serde_json::to_value(crd).map_err(|error| error.to_string())?;
            write_whole_numbers(&mut definition);
            defined_kinds.extend(defined(&definition)?);
            definitions.push(definition);
        }
        defined_kinds.sort_by(|one, other| (&one.group, &one.plural).cmp(&(&other.group, &other.plural)));
        let all = builtin::kinds().into_iter().chain(defined_kinds).map(Arc::new).collect();
        Ok(Self { all, definitions })
    }

    /// Every kind.
    pub fn all(&self) -> &[Arc<Kind>] {
        &self.all
    }

    /// The CustomResourceDefinitions.
    pub fn definitions(&self) -> &[Value] {
        &self.definitions
    }

    /// The kind behind a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.all.iter().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
    }

    /// The kind whose objects are stored under this name.
    pub fn stored_as(&self, resource: &str) -> Option<&Arc<Kind>> {
        self.all.iter().find(|kind| &*kind.stored_as == resource)
    }

    /// The groups with their versions, in the order in which Kubernetes lists them: the core group first, those that are
    /// defined last.
    pub fn groups(&self) -> Vec<(&str, Vec<&str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for kind in &self.all {
            let known = groups.iter().position(|(group, _)| *group == kind.group);
            let at = known.unwrap_or_else(|| {
                groups.push((&kind.group, Vec::new()));
                groups.len() - 1
            });
            let versions = &mut groups[at].1;
            if !versions.contains(&kind.version.as_str()) {
                versions.push(&kind.version);
            }
        }
        groups
    }

    /// The kinds of one group and version.
    pub fn of<'a>(&'a self, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Arc<Kind>> {
        self.all.iter().filter(move |kind| kind.group == group && kind.version == version)
    }
}

/// The kinds of one definition, one for each served version.
fn defined(crd: &Value) -> Result<Vec<Kind>, String> {
    let spec = &crd["spec"];
    let name = crd["metadata"]["name"].as_str().unwrap_or_default();
    let versions =
        spec["versions"].as_array().ok_or_else(|| format!("CustomResourceDefinition {name}: no versions"))?;
    let served = versions.iter().filter(|version| version["served"] == json!(true));
    let kinds: Vec<_> = served.map(|version| defined_version(spec, version)).collect();
    let unreadable = kinds.iter().find_map(|kind| unreadable_rule(&kind.rules.compiled));
    unreadable.map_or(Ok(kinds), |why| Err(format!("CustomResourceDefinition {name}: {why}")))
}

/// A rule that can't be evaluated: an object must not pass because of it.
fn unreadable_rule(rules: &CompiledSchema) -> Option<String> {
    let inner = rules.properties.values().chain(rules.items.as_deref()).chain(rules.additional_properties.as_deref());
    let own = rules.compilation_errors().first().map(ToString::to_string);
    own.or_else(|| inner.into_iter().find_map(unreadable_rule))
}

fn defined_version(spec: &Value, version: &Value) -> Kind {
    let (names, group) = (&spec["names"], text(&spec["group"]));
    let mut schema = version["schema"]["openAPIV3Schema"].clone();
    let rules = Rules::new(compile_schema(&schema));
    let has_rules = schema.to_string().contains("\"x-kubernetes-validations\"");
    for (name, property) in [
        ("apiVersion", json!({ "type": "string" })),
        ("kind", json!({ "type": "string" })),
        ("metadata", builtin::metadata()),
    ] {
        schema["properties"][name] = property;
    }
    let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten().map(|column| Column {
        name: text(&column["name"]),
        kind: text(&column["type"]),
        path: text(&column["jsonPath"]),
        priority: column["priority"].as_i64().unwrap_or_default(),
        description: text(&column["description"]),
    });
    let (plural, kind) = (text(&names["plural"]), text(&names["kind"]));
    let version_name = text(&version["name"]);
    let reversed: Vec<_> = group.rsplit('.').collect();
    Kind {
        stored_as: dotted(&plural, &group).into(),
        component: format!("{}.{version_name}.{kind}", reversed.join(".")),
        singular: names["singular"].as_str().map_or_else(|| kind.to_lowercase(), str::to_owned),
        short_names: texts(&names["shortNames"]),
        categories: texts(&names["categories"]),
        namespaced: spec["scope"] == json!("Namespaced"),
        has_status: version["subresources"]["status"].is_object(),
        has_generation: true,
        custom: true,
        read_only: false,
        unconditional: false,
        made_by_update: false,
        columns: columns.collect(),
        version: version_name,
        group,
        plural,
        kind,
        schema,
        rules,
        has_rules,
    }
}

/// Limits are read as fractions; 10 is written as 10, not as 10.0.
fn write_whole_numbers(value: &mut Value) {
    /// Above this, not every whole number is a fraction.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() <= EXACT);
            if let Some(whole) = whole {
                *value = json!(whole as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(write_whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(write_whole_numbers),
        _ => {}
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}
