//! The mirror as a registry, from the side of whoever pushes.

use std::{
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::{
    StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE, WWW_AUTHENTICATE},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use jiff::Timestamp;
use reqwest::{Body, Method, RequestBuilder, Response, Url};
use serde::Deserialize;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};
use tokio_util::io::ReaderStream;

use super::{Blob, Say, Source, describe};
use crate::{
    domain::{
        digest::Digest,
        http::{Challenge, challenges},
        manifest::{DOCKER_MANIFEST, Manifest},
        model_name::ModelName,
    },
    mirror::{client::MirrorClient, parse, push::keys::KeyPair, random},
};

const TRIES: u32 = 4;
const WAIT: Duration = Duration::from_secs(1);
const CHUNK: usize = 1 << 20;
const SAY_EVERY: Duration = Duration::from_secs(2);

/// A mirror that one pushes to.
pub struct Registry {
    mirror: MirrorClient,
    key: Option<KeyPair>,
    token: tokio::sync::Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl Registry {
    /// The mirror behind this client, and the key to log in with where it asks.
    pub fn new(mirror: MirrorClient, key: Option<KeyPair>) -> Self {
        Self { mirror, key, token: tokio::sync::Mutex::default() }
    }

    /// The client.
    pub fn mirror(&self) -> &MirrorClient {
        &self.mirror
    }

    /// Sends a request that can be made again, logging in when that is asked for.
    async fn send(&self, make: impl Fn() -> RequestBuilder) -> Result<Response, String> {
        let answer = self.send_once(make()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let header = answer.headers().get(WWW_AUTHENTICATE).and_then(|header| header.to_str().ok()).unwrap_or_default();
        let challenge = challenges(header).into_iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service, scope } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        let Some((realm, service, scope)) = challenge else {
            return Err(describe(answer.status(), &answer.text().await.unwrap_or_default()));
        };
        self.log_in(&realm, &service, &scope).await?;
        self.send_once(make()).await
    }

    async fn send_once(&self, request: RequestBuilder) -> Result<Response, String> {
        let token = self.token.lock().await.clone();
        let request = match token {
            Some(token) => {
                let request = request.build().map(|mut request| {
                    let value = axum::http::HeaderValue::try_from(format!("Bearer {token}"));
                    value.into_iter().for_each(|value| _ = request.headers_mut().insert(AUTHORIZATION, value));
                    request
                });
                self.mirror.execute(request).await
            }
            None => self.mirror.execute(request.build()).await,
        };
        request.map_err(|error| error.to_string())
    }

    async fn log_in(&self, realm: &str, service: &str, scope: &str) -> Result<(), String> {
        let Some(key) = &self.key else {
            return Err("the mirror asks who pushes: name your key with --ssh-key (a server of Ollama has one in \
                        ~/.ollama/id_ed25519), or the mirror's with --key-file"
                .into());
        };
        let mut url =
            Url::parse(realm).map_err(|error| format!("the mirror names a bad address for logins: {error}"))?;
        if !self.mirror.is_at(&url) {
            return Err(format!("the mirror sends logins to another host, {realm}: this is refused"));
        }
        let now = Timestamp::now().as_second().to_string();
        url.query_pairs_mut().extend_pairs([
            ("service", service),
            ("scope", scope),
            ("ts", &now),
            ("nonce", &random()),
        ]);
        let request = self.mirror.get(url.clone()).header(AUTHORIZATION, key.sign(url.as_str()));
        let answer = self.mirror.execute(request.build()).await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(describe(answer.status(), &answer.text().await.unwrap_or_default()));
        }
        let answer: Token = answer.json().await.map_err(|_| "the mirror's answer to the login is no token")?;
        *self.token.lock().await = Some(answer.token);
        Ok(())
    }

    fn path(name: &ModelName, rest: &str) -> String {
        format!("/v2/{}/{}/{rest}", name.namespace, name.model)
    }

    /// The manifest that the mirror gives under a name.
    ///
    /// # Errors
    /// When it can't be asked, or answers with nonsense.
    pub async fn manifest(&self, name: &ModelName) -> Result<Option<Manifest>, String> {
        let path = Self::path(name, &format!("manifests/{}", name.tag));
        let answer = self.send(|| self.mirror.request(Method::GET, &path)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
                parse(&bytes).map(Some)
            }
            status => Err(describe(status, &answer.text().await.unwrap_or_default())),
        }
    }

    /// Reads a blob to its end; its bytes, if they are to be kept, of which there are at most `keep` then.
    ///
    /// # Errors
    /// When the mirror doesn't give all of it.
    pub async fn fetch(&self, name: &ModelName, digest: &Digest, keep: Option<u64>) -> Result<Bytes, String> {
        let path = Self::path(name, &format!("blobs/{digest}"));
        let answer = self.send(|| self.mirror.request(Method::GET, &path)).await?;
        if !answer.status().is_success() {
            return Err(describe(answer.status(), &answer.text().await.unwrap_or_default()));
        }
        let (mut body, mut kept) = (answer.bytes_stream(), BytesMut::new());
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| format!("blob {digest}: the mirror broke off: {error}"))?;
            if let Some(limit) = keep {
                kept.extend_from_slice(&chunk);
                if kept.len() as u64 > limit {
                    return Err(format!("blob {digest} is too big for what it should be"));
                }
            }
        }
        Ok(kept.freeze())
    }

    /// Has the mirror have a blob.
    ///
    /// # Errors
    /// Why it doesn't.
    pub(super) async fn upload(&self, name: &ModelName, blob: &Blob, say: Say<'_>) -> Result<(), String> {
        let digest = &blob.digest;
        let path = Self::path(name, &format!("blobs/{digest}"));
        if self.send(|| self.mirror.request(Method::HEAD, &path)).await?.status().is_success() {
            say(&format!("{}  {} bytes, there already", digest.short(), blob.size));
            return Ok(());
        }
        let mount = matches!(blob.source, Source::Mirror);
        let query = if mount { format!("?mount={digest}") } else { String::new() };
        let path = Self::path(name, &format!("blobs/uploads/{query}"));
        let begun = self.send(|| self.mirror.request(Method::POST, &path)).await?;
        let status = begun.status();
        if status == StatusCode::CREATED {
            return Ok(());
        }
        let location = location(&begun);
        if mount || status != StatusCode::ACCEPTED {
            let why = describe(status, &begun.text().await.unwrap_or_default());
            return Err(format!("blob {digest}: {why}"));
        }
        let location = location.ok_or("the mirror does not say where to send the bytes")?;
        self.send_bytes(&location, blob, say).await?;
        let path = format!("{location}?digest={digest}");
        let finished = self.send(|| self.mirror.request(Method::PUT, &path)).await?;
        match finished.status().is_success() {
            true => Ok(()),
            false => Err(describe(finished.status(), &finished.text().await.unwrap_or_default())),
        }
    }

    /// Sends the bytes; a connection that breaks is made again, and goes on where the mirror is.
    async fn send_bytes(&self, location: &str, blob: &Blob, say: Say<'_>) -> Result<(), String> {
        let mut start = 0;
        for attempt in 1.. {
            if blob.size == start {
                break;
            }
            let sent = Arc::new(AtomicU64::new(start));
            let body = body(blob, start, sent.clone()).await?;
            let range = format!("{start}-{}", blob.size.saturating_sub(1));
            let request = self.mirror.request(Method::PATCH, location);
            let request = request.header(CONTENT_RANGE, range).header(CONTENT_LENGTH, blob.size - start).body(body);
            let why = match watched(self.send_once(request), &sent, blob, say).await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer)
                    if answer.status().is_client_error() || answer.status() == StatusCode::INSUFFICIENT_STORAGE =>
                {
                    return Err(describe(answer.status(), &answer.text().await.unwrap_or_default()));
                }
                Ok(answer) => describe(answer.status(), &answer.text().await.unwrap_or_default()),
                Err(why) => why,
            };
            if attempt == TRIES {
                return Err(why);
            }
            say(&format!("{}  broken off, going on: {why}", blob.digest.short()));
            tokio::time::sleep(WAIT * attempt).await;
            start = self.reached(location).await.unwrap_or(start).min(blob.size);
        }
        Ok(())
    }

    async fn reached(&self, location: &str) -> Option<u64> {
        let answer = self.send(|| self.mirror.request(Method::GET, location)).await.ok()?;
        let range = answer.headers().get(RANGE)?.to_str().ok()?;
        // `0-0` is said of nothing and of one byte; that byte is sent again.
        range.strip_prefix("0-")?.parse::<u64>().ok().map(|last| if last == 0 { 0 } else { last + 1 })
    }

    /// Gives the model its name; its digest.
    ///
    /// # Errors
    /// Why the mirror doesn't take it.
    pub async fn put_manifest(&self, name: &ModelName, manifest: &Manifest) -> Result<Digest, String> {
        let (path, text) = (Self::path(name, &format!("manifests/{}", name.tag)), manifest.encode());
        let put = || self.mirror.request(Method::PUT, &path).header(CONTENT_TYPE, DOCKER_MANIFEST).body(text.clone());
        let answer = self.send(put).await?;
        match answer.status().is_success() {
            true => Ok(super::sha256(text.as_bytes())),
            false => Err(describe(answer.status(), &answer.text().await.unwrap_or_default())),
        }
    }
}

/// The path of the `Location`, which is at the same host.
fn location(answer: &Response) -> Option<String> {
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    answer.url().join(location).ok().map(|url| url.path().to_owned())
}

/// Waits for the answer, and tells how far the bytes are.
async fn watched<T>(sending: impl Future<Output = T>, sent: &AtomicU64, blob: &Blob, say: Say<'_>) -> T {
    let mut sending = pin!(sending);
    loop {
        tokio::select! {
            answer = &mut sending => return answer,
            () = tokio::time::sleep(SAY_EVERY) => {
                let sent = sent.load(Ordering::Relaxed);
                say(&format!("{}  {} of {} MB", blob.digest.short(), sent >> 20, blob.size >> 20));
            }
        }
    }
}

async fn body(blob: &Blob, start: u64, sent: Arc<AtomicU64>) -> Result<Body, String> {
    match &blob.source {
        Source::Bytes(bytes) => Ok(Body::from(bytes.slice(usize::try_from(start).unwrap_or(0).min(bytes.len())..))),
        Source::File(path) => {
            file(path, start, blob.size, sent).await.map_err(|error| format!("{}: {error}", path.display()))
        }
        Source::Mirror => Err(format!("blob {} is not at the mirror any more", blob.digest)),
    }
}

async fn file(path: &Path, start: u64, size: u64, sent: Arc<AtomicU64>) -> std::io::Result<Body> {
    let mut file = File::open(path).await?;
    file.seek(std::io::SeekFrom::Start(start)).await?;
    let chunks = ReaderStream::with_capacity(file.take(size - start), CHUNK);
    let count = move |chunk: &std::io::Result<Bytes>| {
        sent.fetch_add(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64), Ordering::Relaxed);
    };
    Ok(Body::wrap_stream(chunks.inspect(count)))
}
