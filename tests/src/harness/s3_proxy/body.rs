//! Bodies on their way through: whole, cut, or slow.

use std::io;
use std::time::Duration;

use anyhow::Result;
use futures::{Stream, StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};

pub(super) type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// A slow line delivers this often.
const TICK: Duration = Duration::from_millis(100);
/// What was sent before a cut is on its way by then.
const BEFORE_CUT: Duration = Duration::from_millis(50);

pub(super) fn whole(incoming: Incoming) -> Body {
    incoming.map_err(anyhow::Error::from).boxed_unsync()
}

pub(super) fn text(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(anyhow::Error::from).boxed_unsync()
}

/// Breaks off after so many bytes.
pub(super) fn cut(body: Body, bytes: usize) -> Body {
    let end = stream::once(async {
        tokio::time::sleep(BEFORE_CUT).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset).into())
    });
    streamed(pieces(body, bytes.max(1)).take(1).chain(end))
}

/// Waits behind a first part of at most so many bytes.
pub(super) fn pausing(body: Body, bytes: usize, pause: impl Future<Output = Result<()>> + Send + 'static) -> Body {
    let mut pause = Some(pause);
    streamed(pieces(body, bytes.max(1)).enumerate().then(move |(number, piece)| {
        let pause = if number == 1 { pause.take() } else { None };
        async move {
            if let Some(pause) = pause {
                pause.await?;
            }
            piece
        }
    }))
}

pub(super) fn slow(body: Body, bytes_per_second: usize) -> Body {
    let paced = pieces(body, (bytes_per_second / 10).max(1)).then(|piece| async {
        tokio::time::sleep(TICK).await;
        piece
    });
    streamed(paced)
}

fn streamed(data: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(data.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// The content in pieces of at most `limit` bytes; the first is never empty.
fn pieces(body: Body, limit: usize) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    let split = move |data: Bytes| (0..data.len()).step_by(limit).map(move |at| Ok(data.slice(at..(at + limit).min(data.len()))));
    BodyDataStream::new(body).flat_map(move |data| match data {
        Ok(data) => stream::iter(split(data).collect::<Vec<_>>()),
        Err(error) => stream::iter(vec![Err(error)]),
    })
}
