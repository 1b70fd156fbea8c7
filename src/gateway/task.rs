//! What a translator of another API makes of a request.

use bytes::Bytes;

use super::{
    fields::{Fields, describe},
    format::Format,
};

/// A path of Ollama's own API that runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// `/api/chat`.
    Chat,
    /// `/api/generate`.
    Generate,
    /// `/api/embed`.
    Embed,
    /// `/api/embeddings`, the older form of the same.
    Embeddings,
}

impl Task {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// The path on the node.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/api/chat",
            Self::Generate => "/api/generate",
            Self::Embed => "/api/embed",
            Self::Embeddings => "/api/embeddings",
        }
    }

    /// As OpenTelemetry's conventions call it.
    pub fn operation(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Generate => "text_completion",
            Self::Embed | Self::Embeddings => "embeddings",
        }
    }

    /// Whether the answer can come piece by piece.
    pub fn streams(self) -> bool {
        matches!(self, Self::Chat | Self::Generate)
    }

    /// Whether a node can be told not to cut what is too long.
    pub fn truncates(self) -> bool {
        self != Self::Embeddings
    }
}

/// A request as a translator of another API leaves it.
#[derive(Clone, Debug)]
pub struct Translated {
    /// How the answer is to be written.
    pub format: Format,
    /// What is to be done.
    pub task: Task,
    /// The body in Ollama's terms, without options.
    pub fields: Fields,
    /// The options, which were checked.
    pub options: Fields,
    /// What the caller says about who speaks.
    pub session: Option<Bytes>,
    /// Whether a wish to think is dropped for models that can't.
    pub lenient_thinking: bool,
}

/// The object `options` of a request, which is taken out.
///
/// # Errors
/// That it is none.
pub fn options(fields: &mut Fields) -> Result<Fields, String> {
    let options = fields.remove("options").map(|options| Fields::parse_exact(&options)).transpose();
    Ok(options.map_err(|error| format!("options: {}", describe(&error)))?.unwrap_or_default())
}
