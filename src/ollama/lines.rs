//! Lines of JSON out of a body that comes in any pieces.

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};

use crate::{domain::pull::Line, ports::NodeError};

const LONGEST_LINE: usize = 1 << 20;

/// The NDJSON lines of a body that comes in arbitrary chunks.
pub fn lines<S>(body: S) -> impl futures::Stream<Item = Result<Line, NodeError>>
where
    S: futures::Stream<Item = Result<Bytes, NodeError>> + Send + 'static,
{
    let parse = |line: &[u8]| {
        let fault = |_| NodeError::Broken("a line of the answer is not JSON".into());
        serde_json::from_slice::<Line>(line).map_err(fault)
    };
    stream::unfold((body.boxed(), BytesMut::new()), move |(mut body, mut rest)| async move {
        loop {
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Some((parse(&line), (body, rest)));
            }
            if rest.len() > LONGEST_LINE {
                rest.clear();
                return Some((Err(NodeError::Broken("a line of the answer has no end".into())), (body, rest)));
            }
            match body.next().await {
                Some(Ok(chunk)) => rest.extend_from_slice(&chunk),
                Some(Err(error)) => return Some((Err(error), (body, BytesMut::new()))),
                None if rest.trim_ascii().is_empty() => return None,
                None => {
                    let last = rest.split();
                    return Some((parse(&last), (body, rest)));
                }
            }
        }
    })
}
