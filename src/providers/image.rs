//! Images as providers take them: pure.

/// How the base64 of each kind of image begins.
const KINDS: [(&str, &str); 4] =
    [("/9j/", "image/jpeg"), ("iVBORw0KGgo", "image/png"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp")];

/// The media type of an image in base64; one that isn't known is taken for what Ollama takes most of.
pub fn media_type(base64: &str) -> &'static str {
    KINDS.iter().find(|(start, _)| base64.starts_with(start)).map_or("image/png", |(_, kind)| kind)
}
