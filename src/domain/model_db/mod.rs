//! What is known of models by their names: family, context, capabilities, size. What a node says of a model it has
//! counts more.

mod builtin;
mod capability;
mod defaults;
mod family;
mod size;

use std::{cmp::Reverse, collections::BTreeMap, sync::LazyLock};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::builtin::{ROWS, Row};
pub use self::{
    capability::{Capabilities, Capability},
    defaults::{Defaults, FAST, check_word},
    family::{family, guessed, last_part},
    size::{Parameters, SizeClass, bits},
};
use super::node::NodeModel;

/// The longest context of models that nobody knows, in tokens: what Ollama gives them.
pub const USUAL_CONTEXT: u64 = 4096;

/// What is said of the models that a pattern fits. What isn't set is left to less specific patterns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The models: `ours-*:*`, `llama3.2` with any tag, `team/bot:7b*`. Without a slash, the namespace doesn't matter.
    #[schemars(length(min = 1, max = 253))]
    pub pattern: String,
    /// Whose kind they are, such as `llama`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub family: Option<String>,
    /// The longest context, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub context_length: Option<u32>,
    /// The most tokens that one answer may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_output_tokens: Option<u32>,
    /// What they can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 7))]
    pub capabilities: Option<Vec<Capability>>,
    /// How many parameters they have, such as `8B`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
    /// Words to find them by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    pub tags: Vec<String>,
}

/// One source of entries. `V` is the value of an option.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer<V> {
    /// Entries, each with the options that its models are called with where nobody says another value.
    pub entries: Vec<(Entry, BTreeMap<String, V>)>,
    /// The default model of each capability, and of `fast`.
    pub defaults: BTreeMap<String, String>,
}

/// Something in a layer that has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The layer, by its place.
    pub layer: usize,
    /// What is wrong with it.
    pub message: String,
    /// The layer that says it already, if that is the reason.
    pub other: Option<usize>,
}

/// What is known of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Known<V> {
    /// Whose kind it is; empty where nobody can tell.
    pub family: String,
    /// The longest context, in tokens.
    pub context_length: u64,
    /// The most tokens that one answer may have.
    pub max_output_tokens: Option<u32>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How many parameters it has.
    pub parameters: Option<Parameters>,
    /// Bits per weight.
    pub bits: Option<u8>,
    /// Options that it is called with where nobody says another value.
    pub options: BTreeMap<String, V>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The most specific pattern that fits it.
    pub pattern: Option<String>,
}

impl<V> Default for Known<V> {
    fn default() -> Self {
        Self {
            family: String::new(),
            context_length: 0,
            max_output_tokens: None,
            capabilities: Capabilities::NONE,
            parameters: None,
            bits: None,
            options: BTreeMap::new(),
            tags: Vec::new(),
            pattern: None,
        }
    }
}

/// All entries together.
#[derive(Clone, Debug)]
pub struct Catalogue<V> {
    entries: Vec<(Entry, BTreeMap<String, V>)>,
    patterns: GlobSet,
    defaults: BTreeMap<String, String>,
}

impl<V> Default for Catalogue<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), patterns: GlobSet::empty(), defaults: BTreeMap::new() }
    }
}

static BUILTIN: LazyLock<GlobSet> = LazyLock::new(|| {
    let globs = ROWS.iter().filter_map(|row| glob(row.pattern).ok());
    globs
        .fold(GlobSetBuilder::new(), |mut all, glob| {
            all.add(glob);
            all
        })
        .build()
        .unwrap_or_default()
});

impl<V: Clone + PartialEq + From<f64>> Catalogue<V> {
    /// The built-in entries with those of layers: of two that say the same thing, the first counts. With it what has no
    /// effect.
    pub fn new(layers: &[Layer<V>]) -> (Self, Vec<Conflict>) {
        let (mut all, mut conflicts) = (Self::default(), Vec::new());
        let mut holders: BTreeMap<String, (usize, &(Entry, BTreeMap<String, V>))> = BTreeMap::new();
        let mut deciders: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        let mut globs = GlobSetBuilder::new();
        for (layer, Layer { entries, defaults }) in layers.iter().enumerate() {
            for entry in entries {
                let pattern = &entry.0.pattern;
                let held = holders.get(&full_pattern(pattern)).copied();
                match (held, glob(pattern)) {
                    (_, Err(error)) => {
                        conflicts.push(Conflict {
                            layer,
                            message: format!("pattern {pattern:?}: {error}"),
                            other: None,
                        });
                    }
                    (Some((_, same)), _) if same == entry => {}
                    (Some((other, _)), _) => {
                        let message = format!("pattern {pattern:?} is taken");
                        conflicts.push(Conflict { layer, message, other: Some(other) });
                    }
                    (None, Ok(glob)) => {
                        holders.insert(full_pattern(pattern), (layer, entry));
                        globs.add(glob);
                        all.entries.push(entry.clone());
                    }
                }
            }
            for (word, model) in defaults {
                match *deciders.entry(word).or_insert((layer, model)) {
                    (_, same) if same == model => {}
                    (other, same) => {
                        let message = format!("the default for {word} is {same} already");
                        conflicts.push(Conflict { layer, message, other: Some(other) });
                    }
                }
            }
        }
        // Each pattern was built before.
        all.patterns = globs.build().unwrap_or_default();
        all.defaults = deciders.into_iter().map(|(word, (_, model))| (word.to_owned(), model.to_owned())).collect();
        (all, conflicts)
    }

    /// The default model of a capability, or of `fast`.
    pub fn default_for(&self, word: &str) -> Option<&str> {
        self.defaults.get(word).map(String::as_str)
    }

    /// The default models.
    pub fn defaults(&self) -> &BTreeMap<String, String> {
        &self.defaults
    }

    /// The entries that layers brought.
    pub fn entries(&self) -> &[(Entry, BTreeMap<String, V>)] {
        &self.entries
    }

    /// What is known of a model by its name. Each fact is that of the most specific pattern that tells it; of two that are
    /// as specific, a built-in one counts less.
    pub fn lookup(&self, name: &str) -> Known<V> {
        let name = with_tag(&name.to_ascii_lowercase());
        let own = fitting(&self.patterns, &name, |at| &self.entries[at].0.pattern);
        let builtin = fitting(&BUILTIN, &name, |at| ROWS[at].pattern);
        let own = own.map(|(at, pattern)| (Fit::new(pattern, true), at));
        let builtin = builtin.map(|(at, pattern)| (Fit::new(pattern, false), at));
        let mut fitting: Vec<(Fit, usize)> = own.chain(builtin).collect();
        fitting.sort_by_key(|(fit, _)| Reverse(*fit));
        let (mut known, mut capabilities) = (Known::default(), None);
        for (fit, at) in &fitting {
            if fit.is_own {
                self.tell(*at, &mut known, &mut capabilities);
            } else {
                tell(&ROWS[*at], &mut known, &mut capabilities);
            }
        }
        known.pattern = fitting.first().map(|(fit, _)| fit.pattern.to_owned());
        known.capabilities = capabilities.unwrap_or_else(|| guessed(&name));
        known.parameters = known.parameters.or_else(|| Parameters::in_name(&name));
        if known.family.is_empty() {
            known.family = family(&name).unwrap_or_default().to_owned();
        }
        if known.context_length == 0 {
            known.context_length = USUAL_CONTEXT;
        }
        known
    }

    fn tell(&self, at: usize, known: &mut Known<V>, capabilities: &mut Option<Capabilities>) {
        let (entry, options) = &self.entries[at];
        if known.family.is_empty() {
            known.family = entry.family.clone().unwrap_or_default();
        }
        if known.context_length == 0 {
            known.context_length = entry.context_length.unwrap_or_default().into();
        }
        known.max_output_tokens = known.max_output_tokens.or(entry.max_output_tokens);
        *capabilities = capabilities.or_else(|| Some(entry.capabilities.as_ref()?.iter().copied().collect()));
        known.parameters = known.parameters.or(entry.parameters);
        for (name, value) in options {
            known.options.entry(name.clone()).or_insert_with(|| value.clone());
        }
        known.tags.extend(entry.tags.iter().filter(|tag| !known.tags.contains(tag)).cloned().collect::<Vec<_>>());
    }
}

fn tell<V: From<f64>>(row: &Row, known: &mut Known<V>, capabilities: &mut Option<Capabilities>) {
    if known.family.is_empty() {
        known.family = row.family.to_owned();
    }
    if known.context_length == 0 {
        known.context_length = row.context.into();
    }
    known.max_output_tokens = known.max_output_tokens.or(row.output);
    if capabilities.is_none() {
        let said = Capabilities::of(row.capabilities);
        *capabilities = Some(if said.has(Capability::Chat) { said.with(Capability::Json) } else { said });
    }
    for (name, value) in row.options {
        known.options.entry((*name).to_owned()).or_insert_with(|| V::from(*value));
    }
}

impl<V> Known<V> {
    /// With what a server says of the model, which counts more. Whether it is made for code, servers don't say.
    pub fn with_facts(mut self, facts: &NodeModel) -> Self {
        if !facts.capabilities.is_empty() {
            let code = self.capabilities.in_both(Capabilities::of(&[Capability::Code]));
            let said = Capabilities::of_server(&facts.capabilities);
            self.capabilities = if said.has(Capability::Embedding) { said } else { said.and(code) };
        }
        if let Some(length) = facts.context_length.and_then(|length| u64::try_from(length).ok()).filter(|l| *l > 0) {
            self.context_length = length;
        }
        if self.family.is_empty() {
            self.family.clone_from(&facts.family);
        }
        self.parameters = facts.parameter_size.parse().ok().or(self.parameters);
        self.bits = bits(&facts.quantization).or(self.bits);
        self
    }
}

/// The patterns that fit a name, by their places: those without a slash fit its last part.
fn fitting<'p>(
    set: &GlobSet,
    name: &str,
    pattern: impl Fn(usize) -> &'p str,
) -> impl Iterator<Item = (usize, &'p str)> {
    let mut found = set.matches(name);
    let (last, whole) = (set.matches(last_part(name)), found.len());
    found.extend(last);
    let found = found.into_iter().enumerate().map(move |(order, at)| (order < whole, at, pattern(at)));
    found.filter(|(is_whole, _, pattern)| pattern.contains('/') == *is_whole).map(|(_, at, pattern)| (at, pattern))
}

/// How well a pattern fits: the more of it stands for itself, the more specific it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fit<'a> {
    literals: usize,
    is_own: bool,
    pattern: &'a str,
}

impl<'a> Fit<'a> {
    fn new(pattern: &'a str, is_own: bool) -> Self {
        let literals = pattern.trim_end_matches(":*").chars().filter(|c| !"*?[]{},".contains(*c)).count();
        Self { literals, is_own, pattern }
    }
}

/// `llama3.2` fits that model with any tag.
fn full_pattern(pattern: &str) -> String {
    let has_tag = last_part(pattern).contains(':') || pattern.ends_with('*');
    if has_tag { pattern.to_ascii_lowercase() } else { format!("{}:*", pattern.to_ascii_lowercase()) }
}

fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(&full_pattern(pattern)).case_insensitive(true).build()
}

fn with_tag(name: &str) -> String {
    if last_part(name).contains(':') { name.to_owned() } else { format!("{name}:latest") }
}
