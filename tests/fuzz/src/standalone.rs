//! As in the program, but with as much of a kind as selectors and failures need.

#[path = "../../../src/standalone/storage/body.rs"]
mod body;
#[path = "../../../src/standalone/partial.rs"]
mod partial;
#[path = "../../../src/standalone/patch/mod.rs"]
pub mod patch;
#[path = "../../../src/standalone/schema/mod.rs"]
pub mod schema;
#[path = "../../../src/standalone/selector.rs"]
pub mod selector;
#[path = "../../../src/standalone/status.rs"]
mod status;

mod kinds {
    pub struct Kind {
        pub group: String,
        pub kind: String,
        pub plural: String,
        pub stored_as: std::sync::Arc<str>,
        pub namespaced: bool,
        pub custom: bool,
    }

    impl Kind {
        pub fn resource(&self) -> String {
            self.plural.clone()
        }
    }
}

mod storage {
    pub use super::body::Labels;
}
