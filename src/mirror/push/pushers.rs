//! Who may push: whoever has the mirror's key, or logs in with a key of `mirror-push-keys-file` as Ollama does. Without
//! that file everybody may, where only this machine can reach the mirror.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Mutex,
};

use axum::{
    Json,
    extract::{Request, State},
    http::{
        HeaderMap, StatusCode, Uri,
        header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::keys::{PublicKey, signer};
use crate::mirror::{Mirror, locked, random, sha256};

/// A signature holds for so long, by either clock, and a token.
const HOLDS: SignedDuration = SignedDuration::from_mins(10);
const SERVICE: &str = "drover";
/// Where tokens are had.
pub const TOKEN_PATH: &str = "/token";

/// Who may push.
pub struct Pushers {
    keys: Option<BTreeSet<PublicKey>>,
    /// Whether only this machine reaches the mirror.
    is_local: bool,
    /// Until when what holds: hashes of tokens, and nonces that were used.
    tokens: Mutex<HashMap<String, Timestamp>>,
    nonces: Mutex<HashMap<String, Timestamp>>,
}

impl Pushers {
    /// Those with these keys; without keys everybody on this machine.
    pub fn new(keys: Option<BTreeSet<PublicKey>>, is_local: bool) -> Self {
        Self { keys, is_local, tokens: Mutex::default(), nonces: Mutex::default() }
    }

    fn lets_in(&self, bearer: &str) -> bool {
        let now = Timestamp::now();
        let hash = sha256(bearer.as_bytes()).to_string();
        locked(&self.tokens).get(&hash).is_some_and(|until| *until > now)
    }

    fn token(&self) -> String {
        let (token, now) = (random(), Timestamp::now());
        let mut tokens = locked(&self.tokens);
        tokens.retain(|_, until| *until > now);
        tokens.insert(sha256(token.as_bytes()).to_string(), now + HOLDS);
        token
    }

    /// Whether a nonce comes for the first time.
    fn is_new(&self, nonce: &str) -> bool {
        let now = Timestamp::now();
        let mut nonces = locked(&self.nonces);
        nonces.retain(|_, until| *until > now);
        // As long as any signature with it could hold.
        nonces.insert(nonce.to_owned(), now + HOLDS * 2).is_none()
    }
}

/// Whether whoever sent these headers may push.
pub fn may_push(mirror: &Mirror, headers: &HeaderMap) -> bool {
    let pushers = &mirror.0.pushers;
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().trim();
    let has_key = mirror.0.key.is_some() && mirror.fits_key(bearer);
    let everybody = pushers.keys.is_none() && pushers.is_local;
    everybody || has_key || pushers.lets_in(bearer)
}

/// Lets through whoever may push.
pub async fn pushers_only(State(mirror): State<Mirror>, request: Request, next: Next) -> Response {
    if may_push(&mirror, request.headers()) {
        return next.run(request).await;
    }
    if mirror.0.pushers.keys.is_none() {
        let why = "pushing to this mirror needs its key, which `drover push --key-file` gives, or \
                   mirror-push-keys-file on the mirror with the keys of those who may push\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    let scope = repository(request.uri()).map(|name| format!("repository:{name}:push,pull")).unwrap_or_default();
    let realm = base_url(request.headers()) + TOKEN_PATH;
    let challenge = format!("Bearer realm=\"{realm}\",service=\"{SERVICE}\",scope=\"{scope}\"");
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)], "log in with a key of mirror-push-keys-file\n")
        .into_response()
}

fn repository(uri: &Uri) -> Option<String> {
    let mut parts = uri.path().strip_prefix("/v2/")?.split('/');
    Some(format!("{}/{}", parts.next()?, parts.next()?))
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// The mirror's address as the caller knows it.
pub fn base_url(headers: &HeaderMap) -> String {
    format!("{}://{}", scheme(headers), host(headers))
}

/// How the caller reaches the mirror: by https when something in front of it says so.
fn scheme(headers: &HeaderMap) -> &'static str {
    match headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https") {
        true => "https",
        false => "http",
    }
}

/// Gives a token to whoever signed the request with a key that may push.
pub async fn token(State(mirror): State<Mirror>, uri: Uri, headers: HeaderMap) -> Response {
    match log_in(&mirror.0.pushers, &uri, &headers) {
        Ok(token) => Json(json!({ "token": token })).into_response(),
        Err(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
    }
}

fn log_in(pushers: &Pushers, uri: &Uri, headers: &HeaderMap) -> Result<String, &'static str> {
    let keys = pushers.keys.as_ref().ok_or("this mirror asks for no logins")?;
    let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let host = host(headers);
    let urls = ["http", "https"].map(|scheme| format!("{scheme}://{host}{path}"));
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = signer(header, &urls).ok_or("the request is not signed as Ollama signs")?;
    if !keys.contains(&key) {
        return Err("this key may not push here: add the line of its id_ed25519.pub to mirror-push-keys-file");
    }
    let field = |name: &str| {
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let signed_at = field("ts").and_then(|ts| ts.parse().ok()).and_then(|ts| Timestamp::from_second(ts).ok());
    let age = signed_at.map(|at| Timestamp::now().duration_since(at).abs());
    if age.is_none_or(|age| age > HOLDS) {
        return Err("the signature is too old or from the future: set the clocks of both machines");
    }
    match field("nonce").is_some_and(|nonce| pushers.is_new(nonce)) {
        true => Ok(pushers.token()),
        false => Err("this signature was used already"),
    }
}
