//! Names on nodes that Drover makes for itself and hides from people: the alias of a model version, so that a moved tag
//! can't change what is served, and the name under which a model is pulled through the mirror.

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
    space.strip_prefix(MARK).is_some_and(|id| is_hex(id, ID_LENGTH))
}

const SECRET_LENGTH: usize = 32;

/// The pull token of the installation and namespace that `id` stands for; `secret` is 32 hex digits.
pub fn token(id: &str, secret: &str) -> String {
    format!("{MARK}{id}-{secret}")
}

/// The token in a name on a node, if the model was pulled by one: `HOST/TOKEN/MODEL:TAG` or `TOKEN/MODEL:TAG`.
pub fn token_in(name: &str) -> Option<&str> {
    let (path, _) = name.rsplit_once('/')?;
    let space = path.rsplit_once('/').map_or(path, |(_, space)| space);
    let (id, secret) = space.strip_prefix(MARK)?.split_once('-')?;
    (is_hex(id, ID_LENGTH) && is_hex(secret, SECRET_LENGTH)).then_some(space)
}

/// Whether a name on a node stems from a pull by a token of the installation and namespace that `id` stands for.
pub fn is_own_transit(id: &str, name: &str) -> bool {
    token_in(name).is_some_and(|token| token[MARK.len()..].starts_with(id))
}

/// Whether people don't see a name on a node: Drover made it for itself.
pub fn is_hidden(name: &str) -> bool {
    is_alias(name) || token_in(name).is_some()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
