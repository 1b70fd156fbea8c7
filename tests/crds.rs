//! The CRDs in `crds/` are those that the kinds in `src/api` make, and say what every field means.

#[path = "support/checkout.rs"]
mod checkout;

use std::fs;

use checkout::checkout;
use drover::api;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use kube::ResourceExt;

#[test]
fn files_are_up_to_date() {
    let folder = checkout("crds");
    let mut expected: Vec<String> = Vec::new();
    for crd in api::crds() {
        let name = format!("{}.yaml", crd.name_any());
        let file = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        let made = serde_yaml::to_string(&crd).expect("a CRD can be written as YAML");
        assert!(file == made, "crds/{name} is out of date: run `cargo run -- crds --dir crds`");
        expected.push(name);
    }
    let mut found: Vec<String> = fs::read_dir(folder)
        .expect("crds/ is there")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "crds/ holds files that no kind makes");
}

#[test]
fn the_chart_carries_the_same_files() {
    let root = checkout("");
    for crd in api::crds() {
        let name = format!("{}.yaml", crd.name_any());
        let read = |folder: &str| fs::read_to_string(root.join(folder).join(&name)).unwrap_or_default();
        assert!(read("crds") == read("charts/drover/crds"), "charts/drover/crds/{name} differs from crds/{name}");
    }
}

#[test]
fn every_field_says_what_it_means() {
    for crd in api::crds() {
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let mut silent = Vec::new();
            find_silent(schema.expect("a schema"), &crd.spec.names.kind, &mut silent);
            assert!(silent.is_empty(), "fields without a description: {}", silent.join(", "));
        }
    }
}

fn find_silent(schema: &JSONSchemaProps, path: &str, silent: &mut Vec<String>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        if property.description.as_ref().is_none_or(String::is_empty) {
            silent.push(path.clone());
        }
        find_silent(property, &path, silent);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        find_silent(items, &format!("{path}[]"), silent);
    }
}

#[test]
fn every_kind_follows_the_conventions() {
    for crd in api::crds() {
        let kind = &crd.spec.names.kind;
        assert_eq!(crd.spec.group, "drover.dev");
        assert_eq!(crd.spec.scope, "Namespaced", "{kind}");
        assert_eq!(crd.spec.names.categories.as_deref(), Some(&["drover".to_owned()][..]), "{kind}");
        assert!(crd.spec.names.short_names.as_ref().is_some_and(|names| names.len() == 1), "{kind}: one short name");
        let version = &crd.spec.versions[0];
        assert!(version.subresources.as_ref().is_some_and(|s| s.status.is_some()), "{kind}: status subresource");
        let columns = version.additional_printer_columns.as_deref().unwrap_or_default();
        let shown: Vec<&str> = columns
            .iter()
            .filter(|column| column.priority.unwrap_or(0) == 0)
            .map(|column| column.name.as_str())
            .collect();
        assert!(shown.ends_with(&["Ready", "Age"]), "{kind}: {shown:?}");
        assert!(columns.iter().any(|column| column.name == "Message" && column.priority == Some(1)), "{kind}");
    }
}
