//! Puts models into a registry the way a person does: with Ollama's own create and push.

use std::collections::BTreeMap;

use super::gguf::TinyLlama;
use super::ollama::Ollama;
use super::registry::Registry;

/// Pushes each `(repository, tag, model)` with the help of `ollama`, which keeps none of them. A repository has
/// two parts, as in `drover/alpha`. Returns the digest of each manifest by `repository:tag`.
pub async fn publish(
    registry: &Registry,
    ollama: &Ollama,
    models: &[(&str, &str, TinyLlama)],
) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gguf = folder.path().join("model.gguf");
    let mut digests = BTreeMap::new();
    for (repository, tag, model) in models {
        let reference = format!("{repository}:{tag}");
        let name = format!("{}/{reference}", registry.address());
        model.write(&gguf).expect("the model can be written");
        ollama.create(&name, &gguf).await;
        ollama.push(&name).await.unwrap_or_else(|error| panic!("push of {name}: {error}"));
        ollama.delete(&name).await;
        digests.insert(reference, registry.manifest_digest(repository, tag).await);
    }
    digests
}
