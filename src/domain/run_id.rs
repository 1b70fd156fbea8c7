//! The name of one request's run: unique, and in the order of time.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// How many bits below the milliseconds are chance.
const CHANCE_BITS: u32 = 80;

/// 48 bits of milliseconds since 1970, then 80 bits of chance; written as 32 hex digits, which sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u128);

impl RunId {
    /// The id of a run that starts at `now`; of `chance` the lower 80 bits are used.
    pub fn new(now: Timestamp, chance: u128) -> Self {
        Self(Self::first_at(now).0 | (chance & ((1 << CHANCE_BITS) - 1)))
    }

    /// The least id of that moment.
    pub fn first_at(moment: Timestamp) -> Self {
        let milliseconds = u128::try_from(moment.as_millisecond()).unwrap_or_default();
        Self(milliseconds << CHANCE_BITS)
    }

    /// The 32 digits.
    pub fn digits(self) -> [u8; 32] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        std::array::from_fn(|at| HEX[(self.0 >> (4 * (31 - at))) as usize & 15])
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digits are ASCII.
        f.write_str(str::from_utf8(&self.digits()).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u128::from_str_radix(text, 16).ok().filter(|_| is_id).map(Self);
        id.ok_or_else(|| format!("{text:?} is not the id of a run, which has 32 hex digits"))
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
