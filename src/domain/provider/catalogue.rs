//! The providers that Drover knows by itself.

use super::Protocol;

/// A provider that Drover knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    /// The name that an object for it has by default.
    pub name: &'static str,
    /// Where its API is.
    pub url: &'static str,
    /// What it speaks.
    pub protocol: Protocol,
    /// The environment variable that usually has the key.
    pub variable: &'static str,
    /// A path that answers those who have a valid key only, where the list of models is for everybody.
    pub key_path: Option<&'static str>,
    /// Fields that this provider calls otherwise than OpenAI's API did first.
    pub renames: &'static [(&'static str, &'static str)],
}

const fn openai(name: &'static str, url: &'static str, variable: &'static str) -> Known {
    Known { name, url, protocol: Protocol::OpenAI, variable, key_path: None, renames: &[] }
}

/// All of them.
pub const CATALOGUE: [Known; 13] = [
    Known { key_path: Some("/key"), ..openai("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY") },
    openai("huggingface", "https://router.huggingface.co/v1", "HF_TOKEN"),
    Known {
        renames: &[("max_tokens", "max_completion_tokens")],
        ..openai("openai", "https://api.openai.com/v1", "OPENAI_API_KEY")
    },
    Known { protocol: Protocol::Anthropic, ..openai("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY") },
    openai("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    openai("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    Known { renames: &[("seed", "random_seed")], ..openai("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY") },
    openai("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    openai("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    openai("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    openai("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
    openai("gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    openai("nvidia", "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
];

/// The known provider of this name.
pub fn known_as(name: &str) -> Option<&'static Known> {
    CATALOGUE.iter().find(|known| known.name == name)
}

/// The known provider whose API this URL is. Only exactly that: a key is sent there.
pub fn known_at(url: &str) -> Option<&'static Known> {
    CATALOGUE.iter().find(|known| known.url == url.trim_end_matches('/'))
}
