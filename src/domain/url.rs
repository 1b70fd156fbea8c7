//! The rules for URLs in manifests.

/// What the API server accepts as the address of an HTTP server: scheme http or https, no credentials, no query.
pub const HTTP_URL: &str =
    r"^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$";
