//! `drover versions lineage`

use super::list::lifecycle;
use crate::{
    api::{ModelVersion, parents},
    cli::registered::Registered,
    domain::registry::{Parents, ancestors, check},
};

pub async fn lineage(model: &str, version: Option<&str>, namespace: Option<&str>) -> Result<(), String> {
    let registered = Registered::load(namespace).await?;
    let versions = registered.known(model)?;
    let parents = parents(model, versions.iter().copied());
    let tree = Tree { versions: &versions, parents: &parents };
    if let Some(version) = version {
        registered.version(model, version)?;
        let line = [version].into_iter().chain(ancestors(version, &parents));
        line.for_each(|version| println!("{}", tree.label(version)));
        return Ok(());
    }
    for root in versions.iter().rev().map(|version| &*version.spec.version).filter(|version| tree.is_root(version)) {
        println!("{}", tree.label(root));
        tree.print_children(root, "");
    }
    Ok(())
}

/// The versions of a model, as a tree; what has no sound parent is a root.
struct Tree<'a> {
    /// The newest first.
    versions: &'a [&'a ModelVersion],
    parents: &'a Parents<'a>,
}

impl<'a> Tree<'a> {
    fn is_root(&self, version: &str) -> bool {
        self.parents.get(version).copied().flatten().is_none() || check(version, self.parents).is_err()
    }

    fn print_children(&self, of: &str, indent: &str) {
        let is_child =
            |version: &&str| self.parents.get(*version).copied().flatten() == Some(of) && !self.is_root(version);
        let oldest_first = self.versions.iter().rev().map(|version| &*version.spec.version);
        let children: Vec<&'a str> = oldest_first.filter(is_child).collect();
        for (index, child) in children.iter().enumerate() {
            let [branch, below] = if index + 1 == children.len() { ["└─ ", "   "] } else { ["├─ ", "│  "] };
            println!("{indent}{branch}{}", self.label(child));
            self.print_children(child, &format!("{indent}{below}"));
        }
    }

    fn label(&self, version: &str) -> String {
        let found = self.versions.iter().find(|found| found.spec.version == version);
        let Some(found) = found else { return version.into() };
        let fault = check(version, self.parents).err().map(|fault| format!("   {}", fault.advice(&found.spec.model)));
        format!("{version}   {}{}", lifecycle(found), fault.unwrap_or_default())
    }
}
