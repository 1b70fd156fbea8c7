//! Logs in to registries: Basic, or a token from the address that the registry names.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderValue, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::{faults, logins::Credential};
use crate::{
    domain::{pull::Fault, upstream::Source},
    mirror::{locked, refusal::Refusal},
};

/// How long a token is good for when nobody says.
const SHORTEST: Duration = Duration::from_secs(60);
/// A token is not used in its last moments.
const MARGIN: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(3600);
const ASK_WITHIN: Duration = Duration::from_secs(30);

/// Who asks for what where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The registry's URL.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// As whom.
    pub login: Option<Credential>,
}

/// What opened repositories before.
#[derive(Default)]
pub struct Tokens(Mutex<HashMap<Key, (HeaderValue, Instant)>>);

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

impl Tokens {
    /// What opened this repository lately.
    pub fn known(&self, key: &Key) -> Option<HeaderValue> {
        let mut known = locked(&self.0);
        let now = Instant::now();
        known.retain(|_, (_, until)| *until > now);
        known.get(key).map(|(value, _)| value.clone())
    }

    fn keep(&self, key: &Key, value: &HeaderValue, good_for: Duration) {
        let until = Instant::now() + good_for.min(LONGEST).saturating_sub(MARGIN);
        locked(&self.0).insert(key.clone(), (value.clone(), until));
    }

    /// User name and password as a header.
    pub fn basic(&self, key: &Key, login: &Credential) -> Option<HeaderValue> {
        let value = basic(login)?;
        self.keep(key, &value, LONGEST);
        Some(value)
    }

    /// Asks for a token.
    pub async fn ask(
        &self,
        http: &Client,
        key: &Key,
        source: &Source,
        realm: &str,
        service: &str,
        scope: &str,
    ) -> Result<HeaderValue, Refusal> {
        let host = &source.host;
        let denied = |message: String| Refusal::new(Fault::Unauthorized, message);
        let url = Url::parse(realm).map_err(|_| denied(format!("{host} names no address to log in at")))?;
        if key.login.is_some() && url.scheme() != "https" && source.url.starts_with("https:") {
            return Err(denied(format!(
                "{host} wants the login to be sent to {} without encryption, where anybody could read it: it was not sent",
                url.host_str().unwrap_or_default()
            )));
        }
        let wanted = format!("repository:{}:pull", source.repository);
        let scope = if scope.is_empty() { &wanted } else { scope };
        let answer = request(http, key, url, service, scope).timeout(ASK_WITHIN).send().await;
        let answer = answer.map_err(|error| faults::of(source, &error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                    faults::unauthorized(source, key.login.is_some())
                }
                StatusCode::TOO_MANY_REQUESTS => faults::rate_limited(source, None),
                _ => faults::status(source, status, faults::words_of_body(answer).await),
            });
        }
        let unreadable = || denied(format!("{host} answered the login with something that is no token"));
        let token: Token = answer.json().await.map_err(|_| unreadable())?;
        let text = if token.token.is_empty() { token.access_token } else { token.token };
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| unreadable())?;
        value.set_sensitive(true);
        self.keep(key, &value, token.expires_in.map_or(SHORTEST, Duration::from_secs));
        Ok(value)
    }
}

fn request(http: &Client, key: &Key, mut url: Url, service: &str, scope: &str) -> reqwest::RequestBuilder {
    if let Some(Credential::Identity(token)) = &key.login {
        let mut form = url.clone();
        form.query_pairs_mut()
            .clear()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service)
            .append_pair("client_id", "drover")
            .append_pair("scope", scope)
            .append_pair("refresh_token", token);
        let body = form.query().unwrap_or_default().to_owned();
        return http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
    }
    if !service.is_empty() {
        url.query_pairs_mut().append_pair("service", service);
    }
    url.query_pairs_mut().append_pair("scope", scope);
    match key.login.as_ref().and_then(basic) {
        Some(value) => http.get(url).header(AUTHORIZATION, value),
        None => http.get(url),
    }
}

fn basic(login: &Credential) -> Option<HeaderValue> {
    let Credential::Password { username, password } = login else { return None };
    let text = BASE64_STANDARD.encode(format!("{username}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {text}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
