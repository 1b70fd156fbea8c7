//! `drover versions changelog`

use std::cmp::Ordering;

use super::list::lifecycle;
use crate::{api::ModelVersion, cli::registered::Registered, domain::version};

pub async fn changelog(model: &str, since: Option<&str>, namespace: Option<&str>) -> Result<(), String> {
    let registered = Registered::load(namespace).await?;
    let is_later = |found: &&ModelVersion| {
        since.is_none_or(|since| version::compare(&found.spec.version, since) == Some(Ordering::Greater))
    };
    let sections = registered.known(model)?.into_iter().filter(is_later).map(section);
    println!("# {model}\n\n{}", sections.collect::<Vec<_>>().join("\n"));
    Ok(())
}

fn section(version: &ModelVersion) -> String {
    let spec = &version.spec;
    let day = version.stage().deployed_at.map(|at| format!(", {}", at.strftime("%Y-%m-%d"))).unwrap_or_default();
    let text = if spec.changelog.is_empty() { "No changelog." } else { spec.changelog.trim_end() };
    format!("## {} ({}{day})\n\n{text}\n", spec.version, lifecycle(version))
}
