//! Objects as text. Most of what `managedFields` lists is the same for many objects, so such lists are kept once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json, value::RawValue};

/// Texts below this length are not worth sharing, in bytes.
const SHARED_FROM: usize = 64;
/// Unused texts are looked for when there are so many, and again at twice as many as are left then.
const TIDY_AT: usize = 1_024;

/// The JSON of one object.
#[derive(Debug, Default)]
pub struct Body {
    own: Box<[u8]>,
    /// What stands before which byte of `own`.
    shared: Box<[(usize, Arc<[u8]>)]>,
}

impl Body {
    /// The text, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.shared.iter().map(|(at, _)| *at));
        let ends = self.shared.iter().map(|(at, _)| *at).chain([self.own.len()]);
        let after = self.shared.iter().map(|(_, text)| &**text).chain([&[][..]]);
        starts.zip(ends).zip(after).flat_map(|((start, end), after)| [&self.own[start..end], after])
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.own.len() + self.shared.iter().map(|(_, text)| text.len()).sum::<usize>()
    }

    /// Writes the text to the end of another one.
    pub fn append_to(&self, text: &mut Vec<u8>) {
        text.reserve(self.size());
        self.pieces().for_each(|piece| text.extend_from_slice(piece));
    }

    /// The text in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.append_to(&mut text);
        text
    }
}

/// What is known of an object without reading it again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct About {
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// The uids of its owners.
    pub owners: Box<[Box<str>]>,
    /// Whether it has a `deletionTimestamp`.
    pub deleting: bool,
}

/// Labels by key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of one.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| **known == *key).map(|(_, value)| &**value)
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        Self(labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// An object that has no revision yet.
#[derive(Debug)]
pub struct Draft {
    body: Body,
    revision_at: usize,
    about: About,
}

impl Draft {
    /// Writes an object down.
    ///
    /// # Errors
    /// When it has no metadata.
    pub fn new(mut object: Value, pool: &Pool) -> serde_json::Result<Self> {
        object["metadata"]["resourceVersion"] = json!("");
        let text = serde_json::to_vec(&object)?;
        let head = Head::read(&text)?;
        // The closing quote of what was just put in.
        let revision_at = head.metadata.resource_version.map_or(0, |value| offset(&text, value) + 1);
        let (body, shared_before) = head.body(&text, pool, revision_at);
        Ok(Self { body, revision_at: revision_at - shared_before, about: head.about() })
    }

    /// The object with its revision.
    pub fn numbered(self, revision: u64) -> (Body, About) {
        let Self { body: Body { own, mut shared }, revision_at, about } = self;
        let revision = revision.to_string();
        let own = [&own[..revision_at], revision.as_bytes(), &own[revision_at..]].concat().into();
        for (at, _) in shared.iter_mut().filter(|(at, _)| *at >= revision_at) {
            *at += revision.len();
        }
        (Body { own, shared }, about)
    }
}

/// Reads what was stored.
///
/// # Errors
/// When it is no object.
pub fn stored(text: &[u8], pool: &Pool) -> serde_json::Result<(Body, About)> {
    let head = Head::read(text)?;
    Ok((head.body(text, pool, 0).0, head.about()))
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    resource_version: Option<&'a RawValue>,
    uid: Option<Box<str>>,
    #[serde(default)]
    labels: HashMap<Box<str>, Value>,
    #[serde(default)]
    owner_references: Vec<Owner>,
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(borrow, default)]
    managed_fields: Vec<Managed<'a>>,
}

#[derive(Deserialize)]
struct Owner {
    uid: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Managed<'a> {
    #[serde(borrow, rename = "fieldsV1")]
    fields: Option<&'a RawValue>,
}

impl<'a> Head<'a> {
    fn read(text: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }

    fn about(self) -> About {
        let Metadata { uid, labels, owner_references, deletion_timestamp, .. } = self.metadata;
        About {
            labels: labels.iter().map(|(key, value)| (&**key, value.as_str().unwrap_or_default())).collect(),
            uid: uid.unwrap_or_default(),
            owners: owner_references.into_iter().filter_map(|owner| owner.uid).collect(),
            deleting: deletion_timestamp.is_some(),
        }
    }

    /// The text without what is shared, and how many bytes before `mark` are.
    fn body(&self, text: &[u8], pool: &Pool, mark: usize) -> (Body, usize) {
        let lists = self.metadata.managed_fields.iter().filter_map(|managed| managed.fields);
        let lists = lists.filter(|list| list.get().len() >= SHARED_FROM);
        let (mut own, mut shared, mut end, mut before) = (Vec::with_capacity(text.len()), Vec::new(), 0, 0);
        for list in lists {
            let (start, list) = (offset(text, list), list.get().as_bytes());
            own.extend_from_slice(&text[end..start]);
            shared.push((own.len(), pool.share(list)));
            end = start + list.len();
            before += if end <= mark { list.len() } else { 0 };
        }
        own.extend_from_slice(&text[end..]);
        (Body { own: own.into(), shared: shared.into() }, before)
    }
}

/// Where in a text a value stands that was read from it.
fn offset(text: &[u8], value: &RawValue) -> usize {
    value.get().as_ptr().addr() - text.as_ptr().addr()
}

/// Texts that many objects have in common; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Texts>>);

#[derive(Debug, Default)]
struct Texts {
    known: HashSet<Arc<[u8]>>,
    left: usize,
}

impl Pool {
    fn share(&self, text: &[u8]) -> Arc<[u8]> {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = texts.known.get(text) {
            return known.clone();
        }
        if texts.known.len() >= TIDY_AT.max(2 * texts.left) {
            texts.known.retain(|text| Arc::strong_count(text) > 1);
            texts.left = texts.known.len();
        }
        let text: Arc<[u8]> = text.into();
        texts.known.insert(text.clone());
        text
    }
}
