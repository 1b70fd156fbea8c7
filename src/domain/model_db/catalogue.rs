//! Entries of several sources, and what they tell of a name together.

use std::{cmp::Reverse, collections::BTreeMap, sync::LazyLock};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use super::{
    Capabilities, Capability, Entry, Known, Parameters, USUAL_CONTEXT,
    builtin::{ROWS, Row},
    family, guessed, last_part,
};

/// An entry, and the options that its models are called with where nobody says another value.
pub type WithOptions<V> = (Entry, BTreeMap<String, V>);

/// One source of entries. `V` is the value of an option.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer<V> {
    /// Entries, each with the options that its models are called with where nobody says another value.
    pub entries: Vec<WithOptions<V>>,
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

/// All entries together.
#[derive(Clone, Debug)]
pub struct Catalogue<V> {
    entries: Vec<WithOptions<V>>,
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
        let mut making = Making::default();
        for (layer, Layer { entries, defaults }) in layers.iter().enumerate() {
            entries.iter().for_each(|entry| making.add_entry(layer, entry));
            defaults.iter().for_each(|(word, model)| making.add_default(layer, word, model));
        }
        let defaults = making.defaults.into_iter().map(|(word, (_, model))| (word.to_owned(), model.to_owned()));
        // Each pattern was built before.
        let patterns = making.globs.build().unwrap_or_default();
        (Self { entries: making.entries, patterns, defaults: defaults.collect() }, making.conflicts)
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
    pub fn entries(&self) -> &[WithOptions<V>] {
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

/// A catalogue in the making.
struct Making<'l, V> {
    entries: Vec<WithOptions<V>>,
    globs: GlobSetBuilder,
    /// Who said it first, and what.
    holders: BTreeMap<String, (usize, &'l WithOptions<V>)>,
    defaults: BTreeMap<&'l str, (usize, &'l str)>,
    conflicts: Vec<Conflict>,
}

impl<V> Default for Making<'_, V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            globs: GlobSetBuilder::new(),
            holders: BTreeMap::new(),
            defaults: BTreeMap::new(),
            conflicts: Vec::new(),
        }
    }
}

impl<'l, V: Clone + PartialEq> Making<'l, V> {
    fn add_entry(&mut self, layer: usize, entry: &'l WithOptions<V>) {
        let pattern = &entry.0.pattern;
        match (self.holders.get(&full_pattern(pattern)).copied(), glob(pattern)) {
            (_, Err(error)) => self.conflict(layer, format!("pattern {pattern:?}: {error}"), None),
            (Some((_, same)), _) if same == entry => {}
            (Some((other, _)), _) => self.conflict(layer, format!("pattern {pattern:?} is taken"), Some(other)),
            (None, Ok(glob)) => {
                self.holders.insert(full_pattern(pattern), (layer, entry));
                self.globs.add(glob);
                self.entries.push(entry.clone());
            }
        }
    }

    fn add_default(&mut self, layer: usize, word: &'l str, model: &'l str) {
        let (other, first) = *self.defaults.entry(word).or_insert((layer, model));
        if first != model {
            self.conflict(layer, format!("the default for {word} is {first} already"), Some(other));
        }
    }

    fn conflict(&mut self, layer: usize, message: String, other: Option<usize>) {
        self.conflicts.push(Conflict { layer, message, other });
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
