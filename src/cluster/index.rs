//! Finds objects by words, such as their labels, without looking at all of them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube_runtime::reflector::ObjectRef;

use super::Kind;

/// The words that objects of a kind are found by.
pub type Words<K> = fn(&K) -> Vec<String>;

/// The objects that have a word, by namespace and word. Clones are views of the same index.
#[derive(Clone)]
pub struct Index<K: Kind> {
    words: Words<K>,
    entries: Arc<RwLock<Entries<K>>>,
}

type Entries<K> = HashMap<Key, HashSet<ObjectRef<K>>>;
/// A namespace and a word.
type Key = (String, String);

impl<K: Kind> Index<K> {
    /// Without objects yet.
    pub fn new(words: Words<K>) -> Self {
        Self { words, entries: Arc::default() }
    }

    /// The objects of a namespace that have the word, in no order.
    pub fn having(&self, namespace: &str, word: &str) -> Vec<ObjectRef<K>> {
        let objects = self.read().get(&(namespace.to_owned(), word.to_owned())).cloned();
        objects.into_iter().flatten().collect()
    }

    /// Takes in a change of one object; `None` stands for an object that isn't there.
    pub fn replace(&self, before: Option<&K>, after: Option<&K>) {
        let [before_keys, after_keys] = [before, after].map(|object| object.map(|o| self.keys(o)).unwrap_or_default());
        if before_keys == after_keys {
            return;
        }
        let mut entries = self.write();
        if let Some(object) = before {
            remove(&mut entries, before_keys, &ObjectRef::from_obj(object));
        }
        if let Some(object) = after {
            insert(&mut entries, after_keys, &ObjectRef::from_obj(object));
        }
    }

    /// Begins again with these objects and no others.
    pub fn replace_all(&self, objects: &[Arc<K>]) {
        let mut entries = Entries::new();
        for object in objects {
            insert(&mut entries, self.keys(object), &ObjectRef::from_obj(&**object));
        }
        *self.write() = entries;
    }

    fn keys(&self, object: &K) -> Vec<Key> {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        (self.words)(object).into_iter().map(|word| (namespace.to_owned(), word)).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries<K>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries<K>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert<K: Kind>(entries: &mut Entries<K>, keys: Vec<Key>, object: &ObjectRef<K>) {
    for key in keys {
        entries.entry(key).or_default().insert(object.clone());
    }
}

fn remove<K: Kind>(entries: &mut Entries<K>, keys: Vec<Key>, object: &ObjectRef<K>) {
    for key in keys {
        if let Some(objects) = entries.get_mut(&key) {
            objects.remove(object);
            if objects.is_empty() {
                entries.remove(&key);
            }
        }
    }
}
