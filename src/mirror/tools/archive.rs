//! Models as a tar file in OCI image layout, to carry them where no registry can be reached.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::body::{Body, Bytes};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::{
    domain::{
        digest::Digest,
        manifest::{DOCKER_MANIFEST, LONGEST, Manifest},
        model_name::ModelName,
        pull::Fault,
    },
    mirror::{Mirror, Refusal, models::Model, parse, random},
    supervisor::blocking,
};

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
const INDEX_FILE: &str = "index.json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const BLOBS: &str = "blobs/sha256/";
const NAME: &str = "org.opencontainers.image.ref.name";
const UPSTREAM_DIGEST: &str = "dev.drover.upstream-digest";
const BLOCK: u64 = 512;
const CHUNK: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: i64,
    #[serde(default)]
    media_type: String,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A file of an archive.
enum Member {
    Bytes(String, Bytes),
    Blob(Digest, u64),
}

/// The archive with these models, of which all must be here.
pub async fn export(
    mirror: &Mirror,
    models: Vec<Arc<Model>>,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static, Refusal> {
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut manifests: BTreeMap<Digest, Bytes> = BTreeMap::new();
    let mut index = Index { schema_version: 2, media_type: INDEX_TYPE.into(), manifests: Vec::new() };
    for model in &models {
        let text = model.manifest.encode();
        let kind = if model.manifest.media_type.is_empty() { DOCKER_MANIFEST } else { &model.manifest.media_type };
        index.manifests.push(Descriptor {
            media_type: kind.into(),
            digest: model.digest.clone(),
            size: text.len() as u64,
            annotations: BTreeMap::from([
                (NAME.into(), model.name.clone()),
                (UPSTREAM_DIGEST.into(), model.upstream_digest.to_string()),
            ]),
        });
        manifests.insert(model.digest.clone(), text.into());
        blobs.extend(model.manifest.blobs().map_err(|why| Refusal::new(Fault::Other, why))?);
    }
    if let Some(missing) = blobs.keys().find(|digest| mirror.blobs().complete(digest).is_none()) {
        let message = format!("blob {missing} is not on the mirror: have a node pull the model first");
        return Err(Refusal::new(Fault::NoSuchModel, message));
    }
    mirror.0.uploads.hold(blobs.keys());
    let index = serde_json::to_vec(&index).map_err(|error| Refusal::new(Fault::Other, error.to_string()))?;
    let first = [Member::Bytes(LAYOUT_FILE.into(), LAYOUT.into()), Member::Bytes(INDEX_FILE.into(), index.into())];
    let manifests = manifests.into_iter().map(|(digest, bytes)| Member::Bytes(path_of(&digest), bytes));
    let members: Vec<Member> = first
        .into_iter()
        .chain(manifests)
        .chain(blobs.into_iter().map(|(digest, size)| Member::Blob(digest, size)))
        .collect();
    let mirror = mirror.clone();
    let files = stream::iter(members).then(move |member| {
        let mirror = mirror.clone();
        async move { packed(&mirror, member).await }
    });
    let end = stream::iter([Ok(Bytes::from(vec![0; 2 * BLOCK as usize]))]);
    Ok(files.try_flatten().chain(end))
}

fn path_of(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

async fn packed(mirror: &Mirror, member: Member) -> io::Result<stream::BoxStream<'static, io::Result<Bytes>>> {
    let (path, size, body) = match member {
        Member::Bytes(path, bytes) => (path, bytes.len() as u64, stream::iter([Ok(bytes)]).boxed()),
        Member::Blob(digest, size) => {
            let body = match size {
                0 => stream::empty().boxed(),
                _ => mirror
                    .blobs()
                    .reader(&digest, size, 0..size, None)
                    .await
                    .map_err(io::Error::other)?
                    .stream()
                    .boxed(),
            };
            (path_of(&digest), size, body)
        }
    };
    let mut header = tar::Header::new_gnu();
    header.set_path(path)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let head = Bytes::copy_from_slice(header.as_bytes());
    let padding = Bytes::from(vec![0; (size.next_multiple_of(BLOCK) - size) as usize]);
    Ok(stream::iter([Ok(head)]).chain(body).chain(stream::iter([Ok(padding)])).boxed())
}

/// What was in an archive: small files, and blobs that wait in a folder.
struct Unpacked {
    index: Option<Vec<u8>>,
    blobs: HashMap<Digest, (PathBuf, u64)>,
}

/// Takes the models of an archive as the mirror's own.
///
/// # Errors
/// What is wrong with the archive; nothing of it is kept then, except blobs that were right.
pub async fn import(mirror: &Mirror, body: Body) -> Result<Vec<Model>, Refusal> {
    let folder = mirror.blobs().staging().join(random());
    let result = import_into(mirror, body, &folder).await;
    // What became a blob was moved away.
    let _ = blocking(move || fs::remove_dir_all(folder)).await;
    result
}

async fn import_into(mirror: &Mirror, body: Body, folder: &Path) -> Result<Vec<Model>, Refusal> {
    let broken = |why: String| Refusal::new(Fault::Other, format!("the archive can't be used: {why}"));
    let reader = SyncIoBridge::new(StreamReader::new(body.into_data_stream().map_err(io::Error::other)));
    let (target, limit) = (folder.to_path_buf(), mirror.blobs().limit());
    let unpacking = blocking(move || {
        fs::create_dir_all(&target)?;
        unpack(reader, &target, limit)
    });
    let mut unpacked = unpacking.await.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Refusal::new(Fault::MirrorFull, "the disk of the mirror's data-dir has no room for the archive")
        }
        _ => broken(error.to_string()),
    })?;
    let index = unpacked.index.take().ok_or_else(|| broken(format!("it has no {INDEX_FILE}")))?;
    let index: Index = serde_json::from_slice(&index).map_err(|error| broken(format!("{INDEX_FILE}: {error}")))?;
    let mut models = Vec::new();
    for descriptor in &index.manifests {
        models.push(read(descriptor, &unpacked).await.map_err(broken)?);
    }
    for model in &models {
        let blobs = model.manifest.blobs().map_err(broken)?;
        mirror.0.uploads.hold(blobs.keys());
        for (digest, size) in blobs {
            match unpacked.blobs.remove(&digest) {
                Some((file, there)) if there == size => mirror.blobs().put(file, &digest, size).await?,
                Some((_, there)) => return Err(broken(format!("blob {digest} has {there} bytes, not {size}"))),
                None if mirror.shows(&digest) == Some(size) => {}
                None => return Err(broken(format!("blob {digest} of {} is not in it", model.name))),
            }
        }
    }
    for model in &models {
        let failed = |error| Refusal::new(Fault::MirrorFull, format!("the mirror can't keep {}: {error}", model.name));
        mirror.models().put(model.clone()).await.map_err(failed)?;
        tracing::info!(model = %model.name, digest = %model.digest, "imported");
    }
    Ok(models)
}

async fn read(descriptor: &Descriptor, unpacked: &Unpacked) -> Result<Model, String> {
    let digest = &descriptor.digest;
    let name =
        descriptor.annotations.get(NAME).ok_or_else(|| format!("manifest {digest} has no name in {INDEX_FILE}"))?;
    let name: ModelName = name.parse()?;
    let (file, size) = unpacked.blobs.get(digest).ok_or_else(|| format!("manifest {digest} of {name} is not in it"))?;
    if *size > LONGEST as u64 {
        return Err(format!("the manifest of {name} has {size} bytes"));
    }
    let file = file.clone();
    let bytes = blocking(move || fs::read(file)).await.map_err(|error| error.to_string())?;
    let manifest: Manifest = parse(&bytes).map_err(|why| format!("{name}: {why}"))?;
    let upstream = descriptor.annotations.get(UPSTREAM_DIGEST).map(|digest| digest.parse()).transpose()?;
    let model = Model::own(&name, manifest, Timestamp::now());
    Ok(Model { upstream_digest: upstream.unwrap_or_else(|| digest.clone()), ..model })
}

/// Reads a tar file; each blob must be what its name says.
fn unpack(archive: impl Read, folder: &Path, limit: u64) -> io::Result<Unpacked> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut unpacked = Unpacked { index: None, blobs: HashMap::new() };
    let mut total = 0u64;
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        let size = entry.size();
        if path == INDEX_FILE {
            if size > LONGEST as u64 {
                return Err(invalid(format!("{INDEX_FILE} has {size} bytes")));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            unpacked.index = Some(bytes);
        }
        let Some(hex) = path.strip_prefix(BLOBS).filter(|hex| !hex.is_empty()) else { continue };
        let digest: Digest = format!("sha256:{hex}").parse().map_err(invalid)?;
        total = total.saturating_add(size);
        if total > limit {
            return Err(invalid(format!("it has more bytes than mirror-cache-size allows, {limit}")));
        }
        let file = folder.join(hex);
        let (found, there) = write(&mut entry, &file)?;
        if found != digest || there != size {
            return Err(invalid(format!("blob {digest} is damaged in it (digest mismatch)")));
        }
        unpacked.blobs.insert(digest, (file, size));
    }
    Ok(unpacked)
}

fn write(from: &mut impl Read, path: &Path) -> io::Result<(Digest, u64)> {
    let (mut file, mut hash, mut size) = (File::create(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok((Digest::from_sha256(&hash.finalize()), size)),
            count => {
                hash.update(&buffer[..count]);
                file.write_all(&buffer[..count])?;
                size += count as u64;
            }
        }
    }
}
