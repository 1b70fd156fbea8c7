//! The GGUF file format, version 3, as far as F32 tensors need it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

const ALIGNMENT: usize = 32;
pub const F32_BYTES: usize = 4;

/// Name and shape of a tensor of F32 weights.
pub struct Tensor {
    pub name: String,
    /// Columns, then rows; a vector has one row.
    pub shape: [usize; 2],
}

impl Tensor {
    fn bytes(&self) -> usize {
        self.shape[0] * self.shape[1] * F32_BYTES
    }

    fn write_info(&self, out: &mut impl Write, offset: u64) -> io::Result<()> {
        const F32: u32 = 0;
        let dimensions = if self.shape[1] == 1 { &self.shape[..1] } else { &self.shape[..] };
        out.write_all(&string_bytes(&self.name))?;
        out.write_all(&(dimensions.len() as u32).to_le_bytes())?;
        for dimension in dimensions {
            out.write_all(&(*dimension as u64).to_le_bytes())?;
        }
        out.write_all(&F32.to_le_bytes())?;
        out.write_all(&offset.to_le_bytes())
    }
}

/// A value of the metadata.
pub enum Value {
    Number(u32),
    Fraction(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i32>),
    Fractions(Vec<f32>),
}

impl Value {
    /// Writes the value after the number that GGUF gives its type.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        const NUMBER: u32 = 4;
        const INTEGER: u32 = 5;
        const FRACTION: u32 = 6;
        const FLAG: u32 = 7;
        const TEXT: u32 = 8;
        const ARRAY: u32 = 9;
        let array = |kind: u32, items: Vec<Vec<u8>>| {
            let count = (items.len() as u64).to_le_bytes();
            [[ARRAY, kind].map(u32::to_le_bytes).concat(), count.to_vec(), items.concat()].concat()
        };
        let bytes = match self {
            Self::Texts(items) => array(TEXT, items.iter().map(|item| string_bytes(item)).collect()),
            Self::Integers(items) => array(INTEGER, items.iter().map(|item| item.to_le_bytes().to_vec()).collect()),
            Self::Fractions(items) => array(FRACTION, items.iter().map(|item| item.to_le_bytes().to_vec()).collect()),
            Self::Number(value) => [NUMBER, *value].map(u32::to_le_bytes).concat(),
            Self::Fraction(value) => [FRACTION, value.to_bits()].map(u32::to_le_bytes).concat(),
            Self::Flag(value) => [&FLAG.to_le_bytes()[..], &[u8::from(*value)]].concat(),
            Self::Text(value) => [&TEXT.to_le_bytes()[..], &string_bytes(value)].concat(),
        };
        out.write_all(&bytes)
    }
}

fn string_bytes(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A file that is written from start to end and hashed on the way.
pub struct GgufFile {
    file: BufWriter<File>,
    hash: Sha256,
    written: usize,
}

impl GgufFile {
    /// Writes all but the weights.
    pub fn create<'a>(
        path: &Path,
        metadata: &[(&str, Value)],
        tensors: impl ExactSizeIterator<Item = &'a Tensor>,
    ) -> io::Result<Self> {
        let mut file = Self { file: BufWriter::new(File::create(path)?), hash: Sha256::new(), written: 0 };
        file.write_all(b"GGUF")?;
        file.write_all(&3u32.to_le_bytes())?;
        file.write_all(&(tensors.len() as u64).to_le_bytes())?;
        file.write_all(&(metadata.len() as u64).to_le_bytes())?;
        for (key, value) in metadata {
            file.write_all(&string_bytes(key))?;
            value.write(&mut file)?;
        }
        let mut offset = 0u64;
        for tensor in tensors {
            tensor.write_info(&mut file, offset)?;
            offset += tensor.bytes().next_multiple_of(ALIGNMENT) as u64;
        }
        Ok(file)
    }

    /// To be called before the weights of each tensor are written.
    pub fn start_tensor(&mut self) -> io::Result<()> {
        let padding = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.write_all(&[0; ALIGNMENT][..padding])
    }

    /// Returns the digest of the file, `sha256:<hex>`.
    pub fn finish(mut self) -> io::Result<String> {
        self.file.flush()?;
        Ok(self.hash.finalize().iter().fold("sha256:".to_owned(), |hex, byte| format!("{hex}{byte:02x}")))
    }
}

impl Write for GgufFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.written += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
