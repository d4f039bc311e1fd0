//! What goes wrong with a request.

use anyhow::{Context, Result, bail};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE};
use hyper::{Method, Request, Response};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::body::{self, Body};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends without an answer; the store hears nothing.
    Disconnect,
    /// 500 InternalError.
    InternalError,
    /// 503 SlowDown: too many requests.
    SlowDown,
    /// 403 AccessDenied.
    AccessDenied,
    /// The connections end in the middle of the request's body: the store has a part.
    CutRequest,
    /// The store does what it is asked; the connection ends in the middle of its answer.
    CutAnswer,
    /// Both bodies, bytes per second.
    Slow(usize),
    /// 403 RequestTimeTooSkewed: the store's clock differs by so many hours.
    WrongClock(i64),
}

/// `forward`: to the store, and its answer.
pub(super) async fn answer<F>(fault: Fault, request: Request<Incoming>, forward: impl FnOnce(Request<Body>) -> F) -> Result<Response<Body>>
where
    F: Future<Output = Result<Response<Body>>>,
{
    match fault {
        Fault::Disconnect => bail!("disconnected"),
        Fault::InternalError => refusal(request, 500, "InternalError").await,
        Fault::SlowDown => refusal(request, 503, "SlowDown").await,
        Fault::AccessDenied => refusal(request, 403, "AccessDenied").await,
        Fault::WrongClock(hours) => wrong_clock(request, hours).await,
        Fault::CutRequest => {
            let half = request.body().size_hint().lower() as usize / 2;
            forward(request.map(|body| body::cut(body::whole(body), half))).await.and_then(|_| bail!("cut"))
        }
        Fault::CutAnswer => {
            let is_head = request.method() == Method::HEAD;
            let answer = forward(request.map(body::whole)).await?;
            let half = answer.body().size_hint().lower() as usize / 2;
            if is_head || half == 0 { bail!("cut") } else { Ok(answer.map(|body| body::cut(body, half))) }
        }
        Fault::Slow(rate) => {
            let answer = forward(request.map(|body| body::slow(body::whole(body), rate))).await?;
            Ok(answer.map(|body| body::slow(body, rate)))
        }
    }
}

async fn wrong_clock(request: Request<Incoming>, hours: i64) -> Result<Response<Body>> {
    let now = Timestamp::now() + SignedDuration::from_hours(hours);
    let mut answer = refusal(request, 403, "RequestTimeTooSkewed").await?;
    // RFC 9110 section 5.6.7.
    answer.headers_mut().insert(DATE, now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string().parse()?);
    Ok(answer)
}

/// As S3 writes errors; what was sent is read, so that the sender hears of it.
async fn refusal(request: Request<Incoming>, status: u16, code: &str) -> Result<Response<Body>> {
    let is_head = request.method() == Method::HEAD;
    let mut sent = body::whole(request.into_body());
    while let Some(frame) = http_body_util::BodyExt::frame(&mut sent).await {
        frame.context("the request broke off")?;
    }
    let text =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>by order of a test</Message></Error>");
    let answer = Response::builder().status(status).header(CONTENT_TYPE, "application/xml").header(CONTENT_LENGTH, text.len());
    Ok(answer.body(body::text(if is_head { String::new() } else { text }))?)
}
