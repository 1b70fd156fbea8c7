//! kubectl on both.
