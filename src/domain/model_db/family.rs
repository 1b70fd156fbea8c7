//! What a model's name says of it where no entry does.

use super::{Capabilities, Capability};

/// How names of families begin in names of models, and the family.
const FAMILIES: [(&str, &str); 46] = [
    ("all-minilm", "bert"),
    ("aya", "command-r"),
    ("bakllava", "llava"),
    ("bge", "bert"),
    ("claude", "claude"),
    ("codegemma", "gemma"),
    ("codellama", "codellama"),
    ("code-llama", "codellama"),
    ("codeqwen", "qwen-coder"),
    ("codestral", "mistral"),
    ("command", "command-r"),
    ("deepseek", "deepseek"),
    ("devstral", "mistral"),
    ("embeddinggemma", "gemma"),
    ("falcon", "falcon"),
    ("gemini", "gemini"),
    ("gemma", "gemma"),
    ("gpt-oss", "gpt-oss"),
    ("gpt", "gpt"),
    ("granite", "granite"),
    ("internlm", "internlm"),
    ("llama", "llama"),
    ("llava", "llava"),
    ("magistral", "mistral"),
    ("mathstral", "mistral"),
    ("minicpm", "minicpm"),
    ("ministral", "mistral"),
    ("mistral", "mistral"),
    ("mixtral", "mixtral"),
    ("moondream", "moondream"),
    ("mxbai", "mxbai"),
    ("nomic-embed", "nomic-embed"),
    ("olmo", "olmo"),
    ("phi", "phi"),
    ("pixtral", "mistral"),
    ("qwen", "qwen"),
    ("qwq", "qwen"),
    ("smollm", "smollm"),
    ("snowflake-arctic-embed", "snowflake"),
    ("stable-code", "stablelm"),
    ("stablelm", "stablelm"),
    ("starcoder", "starcoder"),
    ("tinyllama", "llama"),
    ("vicuna", "llama"),
    ("wizardcoder", "codellama"),
    ("yi", "yi"),
];

/// The family that a model's name tells, whatever stands around it: what comes first in the name, and of that the longest.
/// Names of registries and people don't count.
pub fn family(name: &str) -> Option<&'static str> {
    let name = last_part(name).to_ascii_lowercase();
    let begins_word = |at: usize| !name[..at].ends_with(|c: char| c.is_ascii_alphabetic());
    let found = FAMILIES.iter().filter_map(|(word, family)| {
        let at = name.match_indices(word).map(|(at, _)| at).find(|at| begins_word(*at))?;
        Some((at, word.len(), *family))
    });
    let (_, _, family) = found.min_by_key(|(at, length, _)| (*at, std::cmp::Reverse(*length)))?;
    let is_coder = family == "qwen" && name.contains("coder");
    Some(if is_coder { "qwen-coder" } else { family })
}

/// What a model can probably do whose name says no more than this.
pub fn guessed(name: &str) -> Capabilities {
    let name = last_part(name).to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if says(&["embed", "minilm", "bge-"]) {
        return Capabilities::of(&[Capability::Embedding]);
    }
    let talks = Capabilities::of(&[Capability::Chat, Capability::Json]);
    let code = if says(&["code", "coder"]) { talks.with(Capability::Code) } else { talks };
    if says(&["vision", "llava", "-vl", "pixtral"]) { code.with(Capability::Vision) } else { code }
}

/// A model's name without registry and namespace.
pub fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
