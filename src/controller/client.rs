//! Asks a controller, at its health port, what it has on record.

use std::time::Duration;

use reqwest::{Client, Error, StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ports::AuditRecord;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The answer to `GET /drover/v1/audit`.
#[derive(Debug, Serialize, Deserialize)]
pub struct AuditListing {
    /// The entries, newest first.
    pub items: Vec<AuditRecord>,
}

/// The entries of the audit that fit a query, from the controller at this URL.
///
/// # Errors
/// The controller's words, or that it can't be reached.
pub async fn audit(controller: &str, query: &[(&str, &str)]) -> Result<Vec<AuditRecord>, String> {
    let url = format!("{}/drover/v1/audit", controller.trim_end_matches('/'));
    let url = Url::parse_with_params(&url, query)
        .map_err(|_| format!("{controller}: write a URL such as http://127.0.0.1:11438"))?;
    let client = Client::builder().no_proxy().timeout(ANSWER_WITHIN).build().map_err(|error| error.to_string())?;
    let no_answer = |error: Error| format!("no controller answers at {controller}: {}", error.without_url());
    let answer = client.get(url).send().await.map_err(no_answer)?;
    let (status, body) = (answer.status(), answer.text().await.map_err(no_answer)?);
    if status != StatusCode::OK {
        let said: Value = serde_json::from_str(&body).unwrap_or_default();
        return Err(format!("{controller}: {}", said["error"].as_str().unwrap_or("it keeps no audit")));
    }
    let listing: AuditListing = serde_json::from_str(&body).map_err(|error| format!("{controller}: {error}"))?;
    Ok(listing.items)
}
