//! Keeps the table current: watches in, tables out.
