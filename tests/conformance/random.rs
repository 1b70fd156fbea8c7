//! Random requests to both.
