//! `drover gateway`
use crate::settings::Settings;
pub async fn run(_settings: Settings) -> Result<(), String> {
    Err("x".into())
}
