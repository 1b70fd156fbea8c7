//! Puts models into a registry without Ollama: any bytes as weights, and manifests in any form.

use http::{Method, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{MANIFEST_TYPE, Registry};

/// The digest of some bytes, `sha256:<hex>`.
pub fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::from("sha256:"), |hex, byte| format!("{hex}{byte:02x}"))
}

/// A model that Ollama pulls, but could not load.
#[derive(Clone, Debug)]
pub struct Image {
    /// The bytes of each blob, the config first.
    pub blobs: Vec<Vec<u8>>,
    /// What is put under the tag.
    pub manifest: Value,
}

impl Image {
    /// One layer of so many bytes that look random; another one for every seed.
    pub fn of_size(seed: u64, bytes: usize) -> Self {
        Self::of(vec![noise(seed, bytes)])
    }

    /// These layers.
    pub fn of(layers: Vec<Vec<u8>>) -> Self {
        let config = br#"{"model_format":"gguf","model_family":"llama"}"#.to_vec();
        let entry =
            |kind: &str, bytes: &Vec<u8>| json!({"mediaType": kind, "digest": digest_of(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": entry("application/vnd.docker.container.image.v1+json", &config),
            "layers": layers.iter().map(|layer| entry("application/vnd.ollama.image.model", layer)).collect::<Vec<_>>(),
        });
        let blobs = [vec![config], layers].concat();
        Self { blobs, manifest }
    }

    /// With something in its manifest that Ollama doesn't keep.
    pub fn annotated(mut self) -> Self {
        self.manifest["annotations"] = json!({"org.example.note": "<not kept>"});
        self
    }

    /// Bytes of all blobs.
    pub fn size(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.len() as u64).sum()
    }

    /// The digest of its manifest at the registry.
    pub fn digest(&self) -> String {
        digest_of(&self.manifest_bytes())
    }

    /// The digest of the one layer, or the first of them.
    pub fn layer(&self) -> String {
        digest_of(&self.blobs[1])
    }

    pub fn manifest_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.manifest).expect("JSON")
    }
}

/// Bytes that can't be compressed, the same for the same seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut all = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(bytes);
    all
}

impl Registry {
    /// Puts an image under `repository:tag`.
    pub async fn put(&self, repository: &str, tag: &str, image: &Image) {
        for blob in &image.blobs {
            let start = format!("{}/v2/{repository}/blobs/uploads/", self.url());
            let answer = self.request(Method::POST, &start).send().await.expect("an upload");
            let location = answer.headers().get(header::LOCATION).expect("where to upload").to_str().expect("text");
            let url = format!("{location}&digest={}", digest_of(blob));
            let upload = self.request(Method::PUT, &url).header(header::CONTENT_TYPE, "application/octet-stream");
            let answer = upload.body(blob.clone()).send().await.and_then(reqwest::Response::error_for_status);
            answer.expect("the registry takes the blob");
        }
        let kind = image.manifest["mediaType"].as_str().unwrap_or(MANIFEST_TYPE).to_owned();
        let url = format!("{}/v2/{repository}/manifests/{tag}", self.url());
        let upload = self.request(Method::PUT, &url).header(header::CONTENT_TYPE, kind).body(image.manifest_bytes());
        let answer = upload.send().await.and_then(reqwest::Response::error_for_status);
        answer.expect("the registry takes the manifest");
    }
}
