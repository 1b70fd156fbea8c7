//! Writes models that are small, load in a moment and answer with a known sentence, as GGUF files of the llama
//! architecture. A model says the words of its sentence one after another whatever it is asked, so a test can see
//! from an answer which model gave it.
//!
//! How: attention and feed-forward layers add nothing (their output weights are zero), so the next token depends on
//! the last one only. Word `i` of the sentence is embedded as the unit vector `i`, all else as unit vector 0, and
//! the output layer leads from unit vector `i` to word `i + 1`, from the last one to the end of the answer.

mod format;

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

use format::{F32_BYTES, GgufFile, Tensor, Value};

const WIDTH: usize = 64;
const LAYERS: usize = 2;
const HEADS: u32 = 4;
const CONTEXT_LENGTH: u32 = 2048;
/// What one more unit in the feed-forward layers adds to the file: gate, up and down of each layer.
const BYTES_PER_UNIT: u64 = (LAYERS * 3 * WIDTH * F32_BYTES) as u64;

const UNKNOWN: usize = 0;
const BEGIN: usize = 1;
const END: usize = 2;
const FIRST_BYTE: usize = 3;
const QUOTE: usize = FIRST_BYTE + b'"' as usize;
const FIRST_WORD: usize = FIRST_BYTE + 256;

/// One of the templates that Ollama knows by its text.
const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + \
     '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A model to write. Models of different seeds have different weights, hence different digests.
#[derive(Clone, Debug)]
pub struct TinyLlama {
    seed: u64,
    words: Vec<String>,
    size: u64,
    endless: bool,
    embeds: bool,
}

impl TinyLlama {
    /// About half a megabyte, which answers "I am model number SEED."
    pub fn new(seed: u64) -> Self {
        Self { seed, words: Vec::new(), size: 500_000, endless: false, embeds: false }
            .says(&format!("I am model number {seed}."))
    }

    /// Answers with this sentence of at most 62 different words.
    pub fn says(mut self, sentence: &str) -> Self {
        self.words = sentence.split_whitespace().map(str::to_owned).collect();
        let different: HashSet<&String> = self.words.iter().collect();
        assert_eq!(different.len(), self.words.len(), "a word comes twice: {sentence:?}");
        assert!((1..WIDTH - 1).contains(&self.words.len()), "a sentence of 1 to 62 words: {sentence:?}");
        self
    }

    /// Begins the sentence again after its last word, for as long as the request allows.
    pub fn endlessly(mut self) -> Self {
        self.endless = true;
        self
    }

    /// Makes vectors only: Ollama says so of models that pool.
    pub fn embedding(mut self) -> Self {
        self.embeds = true;
        self
    }

    /// Makes the file about this big, through wider feed-forward layers: 200 MB load in a second and give some
    /// forty tokens a second.
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// Writes the file and returns its digest, `sha256:<hex>`.
    pub fn write(&self, path: &Path) -> io::Result<String> {
        let tensors = self.tensors();
        let mut file = GgufFile::create(path, &self.metadata(), tensors.iter().map(|(tensor, _)| tensor))?;
        let mut noise = Noise::new(self.seed);
        for (tensor, content) in &tensors {
            file.start_tensor()?;
            self.write_weights(&mut file, tensor, content, &mut noise)?;
        }
        file.finish()
    }

    fn vocabulary(&self) -> usize {
        FIRST_WORD + self.words.len()
    }

    fn feed_forward(&self) -> usize {
        let rest = (2 * self.vocabulary() + LAYERS * 4 * WIDTH) * WIDTH * F32_BYTES;
        let units = self.size.saturating_sub(rest as u64) / BYTES_PER_UNIT;
        (units as usize).next_multiple_of(32).max(32)
    }

    fn tensors(&self) -> Vec<(Tensor, Content)> {
        use Content::{Embedding, Noise, Ones, Output, Zeros};
        let tensor = |name: &str, shape, content| (Tensor { name: format!("{name}.weight"), shape }, content);
        let ff = self.feed_forward();
        let mut tensors = vec![
            tensor("token_embd", [WIDTH, self.vocabulary()], Embedding),
            tensor("output_norm", [WIDTH, 1], Ones),
            tensor("output", [WIDTH, self.vocabulary()], Output),
        ];
        for layer in 0..LAYERS {
            let of = |part, shape, content| tensor(&format!("blk.{layer}.{part}"), shape, content);
            tensors.extend([
                of("attn_norm", [WIDTH, 1], Ones),
                of("attn_q", [WIDTH, WIDTH], Noise),
                of("attn_k", [WIDTH, WIDTH], Noise),
                of("attn_v", [WIDTH, WIDTH], Noise),
                of("attn_output", [WIDTH, WIDTH], Zeros),
                of("ffn_norm", [WIDTH, 1], Ones),
                of("ffn_gate", [WIDTH, ff], Noise),
                of("ffn_up", [WIDTH, ff], Noise),
                of("ffn_down", [ff, WIDTH], Zeros),
            ]);
        }
        tensors
    }

    fn metadata(&self) -> Vec<(&'static str, Value)> {
        let token_types = (0..self.vocabulary()).map(|token| match token {
            UNKNOWN => 2,
            BEGIN | END => 3,
            FIRST_BYTE..FIRST_WORD => 6,
            _ => 1,
        });
        let pooling = self.embeds.then_some(("llama.pooling_type", Value::Number(1)));
        let all = [
            ("general.architecture", Value::Text("llama".into())),
            ("general.name", Value::Text(format!("tiny-{}", self.seed))),
            ("general.file_type", Value::Number(0)), // all weights are F32
            ("llama.context_length", Value::Number(CONTEXT_LENGTH)),
            ("llama.embedding_length", Value::Number(WIDTH as u32)),
            ("llama.block_count", Value::Number(LAYERS as u32)),
            ("llama.feed_forward_length", Value::Number(self.feed_forward() as u32)),
            ("llama.attention.head_count", Value::Number(HEADS)),
            ("llama.attention.head_count_kv", Value::Number(HEADS)),
            ("llama.attention.layer_norm_rms_epsilon", Value::Fraction(1e-5)),
            ("llama.rope.dimension_count", Value::Number(WIDTH as u32 / HEADS)),
            ("llama.vocab_size", Value::Number(self.vocabulary() as u32)),
            ("tokenizer.ggml.model", Value::Text("llama".into())),
            ("tokenizer.ggml.tokens", Value::Texts(self.tokens())),
            ("tokenizer.ggml.scores", Value::Fractions(vec![0.0; self.vocabulary()])),
            ("tokenizer.ggml.token_type", Value::Integers(token_types.collect())),
            ("tokenizer.ggml.bos_token_id", Value::Number(BEGIN as u32)),
            ("tokenizer.ggml.eos_token_id", Value::Number(END as u32)),
            ("tokenizer.ggml.add_space_prefix", Value::Flag(false)),
            ("tokenizer.chat_template", Value::Text(CHATML.into())),
        ];
        all.into_iter().chain(pooling).collect()
    }

    /// Bytes stand for themselves in prompts; the words of the sentence are tokens of their own.
    fn tokens(&self) -> Vec<String> {
        let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
        let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
        let words = self.words.iter().enumerate();
        let words = words.map(|(i, word)| if i == 0 { word.clone() } else { format!("\u{2581}{word}") });
        special.into_iter().chain(bytes).chain(words).collect()
    }

    fn write_weights(
        &self,
        out: &mut impl Write,
        tensor: &Tensor,
        content: &Content,
        noise: &mut Noise,
    ) -> io::Result<()> {
        let [columns, rows] = tensor.shape;
        let row = columns * F32_BYTES;
        match content {
            Content::Zeros => (0..rows).try_for_each(|_| out.write_all(&vec![0; row])),
            Content::Ones => out.write_all(&1.0f32.to_le_bytes().repeat(columns)),
            Content::Noise => (0..rows).try_for_each(|_| out.write_all(noise.bytes(row))),
            Content::Embedding => (0..rows).try_for_each(|token| {
                let last = if self.endless { self.words.len() } else { usize::MAX };
                let unit = token.checked_sub(FIRST_WORD).map_or(0, |word| (word + 1) % last);
                out.write_all(&with_peak(noise.bytes(row), unit, 1.0))
            }),
            Content::Output => (0..rows).try_for_each(|token| {
                let (unit, weight) = self.leads_to(token);
                out.write_all(&with_peak(noise.bytes(row), unit, weight))
            }),
        }
    }

    /// The unit vector after which this token comes next, and how strongly so.
    fn leads_to(&self, token: usize) -> (usize, f32) {
        let after_the_last_word = self.words.len();
        match token {
            FIRST_WORD.. => (token - FIRST_WORD, 4.0),
            END => (after_the_last_word, 4.0),
            // Where a schema forbids to end the answer inside a string, the string ends.
            QUOTE => (after_the_last_word, 3.0),
            // Where a schema forbids words, values stay short.
            FIRST_BYTE..FIRST_WORD if b"}],".contains(&((token - FIRST_BYTE) as u8)) => (0, 1.0),
            _ => (0, 0.0),
        }
    }
}

/// Writes an adapter to any [`TinyLlama`], which changes no answer, and returns its digest.
pub fn write_adapter(path: &Path) -> io::Result<String> {
    const RANK: usize = 4;
    let tensor = |name: &str, shape| Tensor { name: format!("blk.0.attn_output.weight.{name}"), shape };
    let tensors = [tensor("lora_a", [WIDTH, RANK]), tensor("lora_b", [RANK, WIDTH])];
    let metadata = [
        ("general.architecture", Value::Text("llama".into())),
        ("general.type", Value::Text("adapter".into())),
        ("adapter.type", Value::Text("lora".into())),
        ("adapter.lora.alpha", Value::Fraction(1.0)),
    ];
    let mut file = GgufFile::create(path, &metadata, tensors.iter())?;
    for _ in &tensors {
        file.start_tensor()?;
        file.write_all(&vec![0; RANK * WIDTH * F32_BYTES])?;
    }
    file.finish()
}

fn with_peak(noise: &[u8], unit: usize, weight: f32) -> Vec<u8> {
    let mut row = noise.to_vec();
    row[unit * F32_BYTES..][..F32_BYTES].copy_from_slice(&weight.to_le_bytes());
    row
}

enum Content {
    Zeros,
    Ones,
    Noise,
    Embedding,
    Output,
}

/// Small random weights, the same for the same seed on every machine. Rows are taken from a block at random places,
/// so that big models are written quickly and yet no two places in a file look alike.
struct Noise {
    block: Vec<u8>,
    random: SplitMix,
}

impl Noise {
    const WEIGHTS: usize = 1 << 16;

    fn new(seed: u64) -> Self {
        let mut random = SplitMix(seed);
        let small = |bits: u64| ((bits % 65_536) as f32 / 65_536.0 - 0.5) * 0.04;
        let block = (0..Self::WEIGHTS).flat_map(|_| small(random.next()).to_le_bytes()).collect();
        Self { block, random }
    }

    fn bytes(&mut self, length: usize) -> &[u8] {
        let places = Self::WEIGHTS - length / F32_BYTES;
        let start = self.random.next() as usize % places * F32_BYTES;
        &self.block[start..][..length]
    }
}

/// The SplitMix64 generator.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
