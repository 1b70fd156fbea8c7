//! Where in an object a value stands.

use std::fmt;

/// A place such as `spec.steps[2].weight`. It is put into words only when something is said of it: most values are fine.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The path of the outermost value; empty for the object itself.
    Start(&'a str),
    /// A field of a map.
    Field(&'a Place<'a>, &'a str),
    /// An item of a list.
    Item(&'a Place<'a>, usize),
}

impl<'a> Place<'a> {
    /// The place of a field below this one.
    pub fn field(&'a self, name: &'a str) -> Self {
        Self::Field(self, name)
    }

    /// The place of an item of this one.
    pub fn item(&'a self, index: usize) -> Self {
        Self::Item(self, index)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(path) => f.write_str(path),
            Self::Field(Self::Start(""), name) => f.write_str(name),
            Self::Field(above, name) => write!(f, "{above}.{name}"),
            Self::Item(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}
