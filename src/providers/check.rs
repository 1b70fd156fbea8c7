//! Whether a provider answers and takes the key.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use reqwest::Response;
use serde::Deserialize;

use super::{Providers, faults, introduce};
use crate::{
    domain::provider::{Endpoint, Protocol, ProviderFault, known_at},
    ports::{ProviderApi, ProviderKey, ProviderListing},
};

const CHECK_WITHIN: Duration = Duration::from_secs(15);

/// The models of a provider: OpenAI's list and Anthropic's have this in common.
#[derive(Deserialize)]
struct Listed {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

impl ProviderApi for Providers {
    fn check<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<ProviderListing, ProviderFault>> {
        async move {
            let key = self.key(endpoint).await.map_err(ProviderFault::NoKey)?;
            if let Some(path) = known_at(&endpoint.url).and_then(|known| known.key_path) {
                self.get(endpoint, path, key.as_ref()).await?;
            }
            let path = match endpoint.protocol {
                Protocol::OpenAI => "/models",
                Protocol::Anthropic => "/v1/models?limit=1000",
            };
            match self.get(endpoint, path, key.as_ref()).await? {
                None => Ok(ProviderListing::default()),
                Some(answer) => listing(answer).await,
            }
        }
        .boxed()
    }
}

impl Providers {
    /// What the provider answers; nothing where it limits requests at the moment, which shows that it is there and took
    /// the key.
    async fn get(
        &self,
        endpoint: &Endpoint,
        path: &str,
        key: Option<&ProviderKey>,
    ) -> Result<Option<Response>, ProviderFault> {
        let request = self.http.get(format!("{}{path}", endpoint.url)).timeout(CHECK_WITHIN);
        let answer = introduce(request, endpoint, key).send().await.map_err(|error| faults::of_check(&error))?;
        match answer.status().as_u16() {
            200 => Ok(Some(answer)),
            429 => Ok(None),
            status @ (401 | 403) => Err(ProviderFault::KeyRefused(status)),
            402 => Err(ProviderFault::PaymentRequired),
            status @ 500.. => Err(ProviderFault::Failing(status)),
            status => {
                Err(ProviderFault::NotAnApi(format!("HTTP {status} is no answer to the question for its models")))
            }
        }
    }
}

async fn listing(answer: Response) -> Result<ProviderListing, ProviderFault> {
    let listed: Listed = answer.json().await.map_err(|error| match error.is_timeout() {
        true => ProviderFault::TimedOut,
        false => ProviderFault::NotAnApi("the answer is no list of models".into()),
    })?;
    let mut models: Vec<String> = listed.data.into_iter().map(|model| model.id).collect();
    models.sort();
    Ok(ProviderListing { models: Some(models) })
}
