//! Default models as a setting writes them: `fast=llama3.2:1b,code=qwen2.5-coder:7b`.

use std::{collections::BTreeMap, str::FromStr};

use super::Capability;

/// What is no capability, and has a default model all the same: the small one.
pub const FAST: &str = "fast";

/// The default model of each capability, and of `fast`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults(pub BTreeMap<String, String>);

/// Whether a default model can be named for this word.
///
/// # Errors
/// Which words there are.
pub fn check_word(word: &str) -> Result<(), String> {
    match word {
        FAST => Ok(()),
        _ => word.parse::<Capability>().map(drop).map_err(|error| format!("{error}, {FAST}")),
    }
}

impl FromStr for Defaults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut defaults = BTreeMap::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (word, model) = entry.split_once('=').ok_or_else(|| format!("{entry:?} is not CAPABILITY=MODEL"))?;
            check_word(word)?;
            if model.is_empty() || defaults.insert(word.to_owned(), model.to_owned()).is_some() {
                return Err(format!("{word} needs one model"));
            }
        }
        Ok(Self(defaults))
    }
}
