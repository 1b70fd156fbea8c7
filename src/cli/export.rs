//! `drover export`

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::Value;

use crate::{
    api::crds,
    cluster::{self, Client, KindOf},
    export::{self, Manifest, SecretRef},
};

#[derive(Args)]
pub struct Export {
    /// The namespace; without one, the kubeconfig's
    #[arg(short, long, conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// New folder for one file an object; - for all of them on standard output
    #[arg(short, long, value_name = "DIR", default_value = "-")]
    output: PathBuf,
    /// Also the Secrets that objects name
    #[arg(long)]
    secrets: bool,
}

/// Writes the manifests, and says on stderr what needs a look.
pub async fn run(command: Export) -> Result<(), String> {
    let is_stdout = command.output == Path::new("-");
    if !is_stdout && fs::read_dir(&command.output).is_ok_and(|mut entries| entries.next().is_some()) {
        let folder = command.output.display();
        return Err(format!(
            "{folder} is not empty: name a new folder, so that nothing of an earlier export is left in it"
        ));
    }
    let client = cluster::connect().await?;
    let own = client.default_namespace().to_owned();
    let namespace = (!command.all_namespaces).then(|| command.namespace.unwrap_or(own));
    let manifests = collect(&client, namespace.as_deref(), command.secrets).await?;
    for note in manifests.iter().flat_map(|manifest| &manifest.notes) {
        eprintln!("{note}");
    }
    if is_stdout {
        for manifest in &manifests {
            print!("---\n{}", export::yaml(manifest)?);
        }
        return Ok(());
    }
    manifests.iter().try_for_each(|manifest| write(&command.output, manifest))
}

/// The manifests, namespaces first, then kind by kind, by name.
async fn collect(client: &Client, namespace: Option<&str>, with_secrets: bool) -> Result<Vec<Manifest>, String> {
    let (mut manifests, mut needed) = (Vec::new(), BTreeMap::<SecretRef, String>::new());
    for kind in drover_kinds() {
        let failed = |error| format!("{}: {error}", kind.plural);
        let Some(mut objects) = cluster::list(client, &kind, namespace).await.map_err(failed)? else {
            eprintln!("{}: the API does not know the kind", kind.kind);
            continue;
        };
        objects.sort_by_key(place);
        for object in &objects {
            let Some(manifest) = export::manifest(object) else { continue };
            let label = format!("{} {}", kind.kind, place(object).1);
            needed.extend(export::secrets(object).map(|secret| (secret, label.clone())));
            manifests.push(manifest);
        }
    }
    let names: BTreeSet<_> = manifests.iter().map(|manifest| place(&manifest.object).0).collect();
    let mut first = Vec::new();
    for name in names {
        let object = cluster::get(client, &core("Namespace", "namespaces"), None, &name).await;
        let object = object.map_err(|error| format!("namespace {name}: {error}"))?;
        first.extend(object.as_ref().and_then(export::namespace));
    }
    for (secret, user) in needed {
        let SecretRef { namespace, name } = &secret;
        if !with_secrets {
            eprintln!("left out: Secret {namespace}/{name}, which {user} needs; --secrets takes it along");
            continue;
        }
        let object = cluster::get(client, &core("Secret", "secrets"), Some(namespace), name).await;
        match object.map_err(|error| format!("Secret {namespace}/{name}: {error}"))?.as_ref() {
            Some(object) => first.extend(export::manifest(object)),
            None => eprintln!("Secret {namespace}/{name}, which {user} needs, is not there"),
        }
    }
    first.append(&mut manifests);
    Ok(first)
}

/// Every kind that users declare.
fn drover_kinds() -> impl Iterator<Item = KindOf> {
    crds().into_iter().map(|crd| {
        let version = crd.spec.versions.into_iter().find(|version| version.storage).map(|version| version.name);
        let names = crd.spec.names;
        KindOf { group: crd.spec.group, version: version.unwrap_or_default(), kind: names.kind, plural: names.plural }
    })
}

fn core(kind: &str, plural: &str) -> KindOf {
    KindOf { group: String::new(), version: "v1".into(), kind: kind.into(), plural: plural.into() }
}

/// Namespace and name.
fn place(object: &Value) -> (String, String) {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn write(folder: &Path, manifest: &Manifest) -> Result<(), String> {
    let file = folder.join(export::file(manifest));
    let say = |error: std::io::Error| format!("{}: {error}", file.display());
    if let Some(parent) = file.parent() {
        DirBuilder::new().recursive(true).create(parent).map_err(say)?;
    }
    let is_secret = manifest.object["kind"] == "Secret";
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(if is_secret { 0o600 } else { 0o666 });
    let mut written = options.open(&file).map_err(say)?;
    written.write_all(export::yaml(manifest)?.as_bytes()).map_err(say)
}
