//! The second name under which a node holds a model version, so that a moved tag can't change what is served.

/// What every alias starts with, whichever installation made it.
const MARK: &str = "drover-";
const ID_LENGTH: usize = 8;

/// The alias of `model` at `version` for the installation and namespace that `id` stands for (8 hex digits).
pub fn alias(id: &str, model: &str, version: &str) -> String {
    format!("{MARK}{id}/{model}:{version}").to_ascii_lowercase()
}

/// Whether `name` is an alias made by the installation and namespace that `id` stands for.
pub fn is_own(id: &str, name: &str) -> bool {
    is_alias(name) && name[MARK.len()..].starts_with(id)
}

/// Whether a namespace is kept for names that Drover makes, so that people can't have it.
pub fn is_reserved(namespace: &str) -> bool {
    namespace.get(..MARK.len()).is_some_and(|start| start.eq_ignore_ascii_case(MARK))
}

/// Whether a name on a node is such an alias, of this installation or of another one: those are hidden from people.
pub fn is_alias(name: &str) -> bool {
    let Some((space, _)) = name.split_once('/') else { return false };
    space.strip_prefix(MARK).is_some_and(|id| id.len() == ID_LENGTH && id.bytes().all(|b| b.is_ascii_hexdigit()))
}
