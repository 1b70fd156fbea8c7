//! Server-sent events.

use bytes::{BufMut, BytesMut};
use serde::Serialize;

/// Writes a value as JSON.
pub fn put_json<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    // Memory takes everything, and what is written here has no keys but strings.
    drop(serde_json::to_writer(out.writer(), value));
}

/// Writes an event that has data only.
pub fn put_data(out: &mut BytesMut, data: impl FnOnce(&mut BytesMut)) {
    out.put(&b"data: "[..]);
    data(out);
    out.put(&b"\n\n"[..]);
}

/// Writes an event with a name.
pub fn put_event<T: Serialize + ?Sized>(out: &mut BytesMut, name: &str, data: &T) {
    out.put(&b"event: "[..]);
    out.put(name.as_bytes());
    out.put_u8(b'\n');
    put_data(out, |out| put_json(out, data));
}
