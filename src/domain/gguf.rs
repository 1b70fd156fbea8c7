//! The head of a GGUF file: what kind of model it is, before its weights.
//!
//! Source of the format: ggml's `docs/gguf.md`, versions 2 and 3 in little-endian order. Nothing is allocated on the
//! word of a file: lists are walked over, and every length is checked against the bytes that are there.

use std::collections::BTreeMap;

/// What is known of a model from the head of its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// For example `llama`; `unknown` if the file doesn't say.
    pub architecture: String,
    /// What the weights are for.
    pub kind: Kind,
    /// The number of its quantization.
    pub file_type: Option<u32>,
    /// How many weights there are.
    pub parameters: u64,
    /// The longest context it was trained for, in tokens.
    pub context_length: Option<u32>,
    /// Whether it has a template for chats, in a form that Ollama doesn't run.
    pub has_chat_template: bool,
    /// So many bytes the file has at least, if it is whole.
    pub least_size: u64,
}

/// What weights are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A model.
    #[default]
    Model,
    /// A change to a model's weights.
    Adapter,
    /// What makes an image readable to a model.
    Projector,
}

/// Why there is no head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The head is longer than the bytes given: so many are needed, perhaps more.
    Short(u64),
    /// These bytes are no GGUF file; in words.
    Broken(String),
}

/// Names of the file types that Ollama has names for, by number.
const FILE_TYPES: [(u32, &str); 18] = [
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (4, "MXFP4"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (21, "Q2_K_S"),
    (32, "BF16"),
];
const MAGIC: &[u8] = b"GGUF";
const BIG_ENDIAN_VERSION: u32 = 3 << 24;
const DEFAULT_ALIGNMENT: u32 = 32;
const MOST_DIMENSIONS: u32 = 8;
/// No file is bigger, in bytes.
const BIGGEST: u64 = 1 << 50;

mod kinds {
    pub const UINT32: u32 = 4;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
}

impl Head {
    /// Reads the head from the first bytes of a file.
    ///
    /// # Errors
    /// [`Fault::Short`] when more of the file is needed, else what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut cursor = Cursor { bytes, at: 0 };
        if cursor.take(4)? != MAGIC {
            return Err(broken("it does not begin with GGUF"));
        }
        match cursor.u32()? {
            2 | 3 => {}
            BIG_ENDIAN_VERSION => return Err(broken("it is written for big-endian machines")),
            version => return Err(broken(&format!("its version of the format is {version}, not 2 or 3"))),
        }
        let (tensors, pairs) = (cursor.u64()?, cursor.u64()?);
        let mut values = Values::default();
        for _ in 0..pairs {
            values.read(&mut cursor)?;
        }
        let (mut parameters, mut farthest) = (0u64, 0u64);
        for _ in 0..tensors {
            let tensor = cursor.tensor()?;
            parameters = parameters.checked_add(tensor.elements).ok_or_else(|| broken("it claims too many weights"))?;
            farthest = farthest.max(tensor.offset);
        }
        Ok(values.head(parameters, cursor.at as u64, farthest))
    }

    /// The quantization as Ollama shows it.
    pub fn quantization(&self) -> &'static str {
        let found = FILE_TYPES.iter().find(|(number, _)| Some(*number) == self.file_type);
        found.map_or("unknown", |(_, name)| name)
    }

    /// The number of weights as Ollama shows it: `8.0B`, `137.53M`, `82K`.
    pub fn parameter_size(&self) -> String {
        let unit = |unit: u64, digits: usize, letter: char| {
            let number = self.parameters as f64 / unit as f64;
            let digits = if self.parameters.is_multiple_of(unit) { 0 } else { digits };
            format!("{number:.digits$}{letter}")
        };
        match self.parameters {
            1_000_000_000.. => unit(1_000_000_000, 1, 'B'),
            1_000_000.. => unit(1_000_000, 2, 'M'),
            1_000.. => unit(1_000, 0, 'K'),
            few => few.to_string(),
        }
    }
}

fn broken(what: &str) -> Fault {
    Fault::Broken(what.into())
}

/// The metadata that matters.
#[derive(Default)]
struct Values<'a> {
    numbers: BTreeMap<&'a str, u32>,
    architecture: Option<&'a str>,
    kind: &'a str,
    has_chat_template: bool,
}

impl<'a> Values<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        let key = str::from_utf8(cursor.string()?).map_err(|_| broken("a key of its metadata is not text"))?;
        match cursor.u32()? {
            kinds::UINT32 => _ = self.numbers.insert(key, cursor.u32()?),
            kinds::STRING => {
                let value = cursor.string()?;
                let text = || str::from_utf8(value).map_err(|_| broken(&format!("its {key} is not text")));
                match key {
                    "general.architecture" => self.architecture = Some(text()?),
                    "general.type" => self.kind = text()?,
                    "tokenizer.chat_template" => self.has_chat_template = !value.is_empty(),
                    _ => {}
                }
            }
            kinds::ARRAY => cursor.skip_array()?,
            kind => cursor.skip(size_of_kind(kind)?)?,
        }
        Ok(())
    }

    fn head(&self, parameters: u64, end: u64, farthest: u64) -> Head {
        let architecture = self.architecture.unwrap_or("unknown");
        let number = |key: &str| self.numbers.get(format!("{architecture}.{key}").as_str()).copied();
        let count = |key| number(key).unwrap_or(0);
        let sees_only = count("block_count") == 0 && count("vision.block_count") > 0;
        let kind = match self.kind {
            "adapter" => Kind::Adapter,
            "projector" => Kind::Projector,
            _ if sees_only => Kind::Projector,
            _ => Kind::Model,
        };
        let alignment = self.numbers.get("general.alignment").copied().unwrap_or(DEFAULT_ALIGNMENT).max(1);
        let weights = end.div_ceil(alignment.into()) * u64::from(alignment);
        Head {
            architecture: architecture.into(),
            kind,
            file_type: self.numbers.get("general.file_type").copied(),
            parameters,
            context_length: number("context_length"),
            has_chat_template: self.has_chat_template,
            // Where the last tensor begins there is at least one byte of it.
            least_size: if parameters == 0 { end } else { weights.saturating_add(farthest).saturating_add(1) },
        }
    }
}

/// Bytes of a value of this kind.
fn size_of_kind(kind: u32) -> Result<u64, Fault> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        kind => Err(broken(&format!("it has a value of the unknown kind {kind}"))),
    }
}

struct Tensor {
    elements: u64,
    offset: u64,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], Fault> {
        let end = (self.at as u64).checked_add(length).filter(|end| *end <= BIGGEST);
        let end = end.ok_or_else(|| broken("it claims a length that no file has"))?;
        let taken = usize::try_from(end).ok().and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(Fault::Short(end))?;
        self.at += taken.len();
        Ok(taken)
    }

    fn skip(&mut self, length: u64) -> Result<(), Fault> {
        self.take(length).map(drop)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.take(N as u64)?;
        bytes.first_chunk().copied().ok_or(Fault::Short(N as u64))
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.number().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.number().map(u64::from_le_bytes)
    }

    fn string(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.u64()?;
        self.take(length)
    }

    fn skip_array(&mut self) -> Result<(), Fault> {
        let (kind, count) = (self.u32()?, self.u64()?);
        match kind {
            kinds::STRING => (0..count).try_for_each(|_| self.string().map(drop)),
            kinds::ARRAY => Err(broken("it has a list of lists")),
            kind => self.skip(size_of_kind(kind)?.saturating_mul(count)),
        }
    }

    fn tensor(&mut self) -> Result<Tensor, Fault> {
        self.string()?;
        let dimensions = self.u32()?;
        if dimensions > MOST_DIMENSIONS {
            return Err(broken(&format!("a tensor has {dimensions} dimensions")));
        }
        let mut elements = 1u64;
        for _ in 0..dimensions {
            let length = self.u64()?;
            elements = elements.checked_mul(length).ok_or_else(|| broken("a tensor is too big for any machine"))?;
        }
        self.u32()?;
        Ok(Tensor { elements, offset: self.u64()? })
    }
}
