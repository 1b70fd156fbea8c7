//! Digests as registries and Ollama write them: `sha256:` and 64 hexadecimal digits.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

const PREFIX: &str = "sha256:";
const HEX_DIGITS: usize = 64;

/// The sha256 of some bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// The digest whose value these bytes are.
    pub fn from_sha256(value: &[u8]) -> Self {
        let hex = value.iter().fold(String::with_capacity(HEX_DIGITS), |hex, byte| hex + &format!("{byte:02x}"));
        Self(format!("{PREFIX}{hex}"))
    }

    /// As people and registries write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// Its value.
    pub fn bytes(&self) -> [u8; 32] {
        let digit = |index: usize| match self.hex().as_bytes().get(index) {
            Some(letter @ b'a'..=b'f') => letter - b'a' + 10,
            Some(digit @ b'0'..=b'9') => digit - b'0',
            _ => 0,
        };
        std::array::from_fn(|index| digit(2 * index) << 4 | digit(2 * index + 1))
    }

    /// Its first digits, enough for people.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

/// The digest to serve where nodes hold different ones under one name: the one that a pull `resolved`, if a node has it, else
/// the one that most nodes have; of several, the first in their order as text.
pub fn served<'a>(held: &[&'a str], resolved: Option<&str>) -> Option<&'a str> {
    let of_pull = held.iter().find(|digest| Some(**digest) == resolved);
    let count = |digest: &str| held.iter().filter(|other| **other == digest).count();
    let of_most = || held.iter().max_by(|a, b| count(a).cmp(&count(b)).then_with(|| b.cmp(a)));
    of_pull.or_else(of_most).copied()
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.strip_prefix(PREFIX) {
            Some(hex) if hex.len() == HEX_DIGITS && hex.bytes().all(is_digit) => Ok(Self(text.into())),
            _ => Err(format!("{text:?} is not a digest: it is sha256: and 64 digits of 0-9 and a-f")),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
