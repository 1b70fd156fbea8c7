//! How big models are: numbers of parameters as people write them (`3.2B`, `137M`, `8x7B`), and bits per weight.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A number of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parameters(pub u64);

/// What the API server accepts; [`Parameters::from_str`] accepts all of it.
const PATTERN: &str = "^([0-9]{1,3}x)?[0-9]{1,6}([.][0-9]{1,3})?[kKmMbBtT]$";

/// Sizes by which people speak of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SizeClass {
    /// Less than a billion parameters.
    Tiny,
    /// Up to 5 billion.
    Small,
    /// Up to 16 billion.
    Medium,
    /// Up to 50 billion.
    Large,
    /// More.
    Huge,
}

impl Parameters {
    /// The class that it belongs to.
    pub fn class(self) -> SizeClass {
        const BILLION: u64 = 1_000_000_000;
        match self.0 {
            count if count < BILLION => SizeClass::Tiny,
            count if count <= 5 * BILLION => SizeClass::Small,
            count if count <= 16 * BILLION => SizeClass::Medium,
            count if count <= 50 * BILLION => SizeClass::Large,
            _ => SizeClass::Huge,
        }
    }

    /// What a model's name says of it: `llama3.2:3b`, `qwen2.5-coder-1.5b-instruct`. The tag knows better than the name.
    pub fn in_name(name: &str) -> Option<Self> {
        let (name, tag) = name.rsplit_once(':').unwrap_or((name, ""));
        let in_words = |text: &str| text.split(['-', '_', '/']).find_map(|word| word.parse().ok());
        in_words(tag).or_else(|| in_words(name))
    }
}

impl FromStr for Parameters {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault =
            || format!("{text:?} is not a number of parameters: write a number and a unit, such as 3.2B or 137M");
        let unit = text.chars().last().ok_or_else(fault)?;
        let factor = match unit.to_ascii_lowercase() {
            'k' => 1e3,
            'm' => 1e6,
            'b' => 1e9,
            't' => 1e12,
            _ => return Err(fault()),
        };
        let number = &text[..text.len() - 1];
        let (times, each) = number.split_once('x').unwrap_or(("1", number));
        let is_number = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.')
        };
        if !is_number(times) || !is_number(each) || text.len() > 16 {
            return Err(fault());
        }
        let times: u16 = times.parse().map_err(|_| fault())?;
        let each: f64 = each.parse().map_err(|_| fault())?;
        Ok(Self((f64::from(times) * each * factor).round() as u64))
    }
}

impl fmt::Display for Parameters {
    /// In the biggest unit of which it is at least one, cut after a digit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)];
        let count = self.0 as f64;
        let (unit, factor) = units.into_iter().find(|(_, factor)| count >= *factor).unwrap_or(("K", 1e3));
        let text = format!("{:.1}", count / factor);
        write!(f, "{}{unit}", text.trim_end_matches(".0"))
    }
}

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Parameters {
    fn schema_name() -> Cow<'static, str> {
        "Parameters".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": 16 })
    }
}

/// Bits per weight of a quantization as Ollama names it: 4 for `Q4_K_M`, 16 for `F16`, 3 for `IQ3_XS`.
pub fn bits(quantization: &str) -> Option<u8> {
    let digits: String =
        quantization.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|bits| (1..=64).contains(bits))
}
