//! A way to an S3 server that tests can disturb: a reverse proxy on loopback, told while it runs what to do to which requests.
//!
//! `Host` is forwarded as it came, since SigV4 signs it. Every request is noted; one that matches a [`Hold`] waits there.

mod body;
mod fault;
mod hold;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::body::Body;
pub use self::fault::Fault;
pub use self::hold::{Hold, Point};
use super::process::wait_until;
use super::s3::S3;

const BACKLOG: u32 = 128;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub method: String,
    /// `bucket/key` without a slash in front, as escaped in the URL; the bucket alone for a listing.
    pub key: String,
}

impl Call {
    fn of<T>(request: &Request<T>) -> Self {
        Self { method: request.method().to_string(), key: request.uri().path().trim_start_matches('/').to_owned() }
    }
}

pub fn everything(_: &Call) -> bool {
    true
}

pub fn segments(call: &Call) -> bool {
    call.key.ends_with(".ts")
}

pub fn playlists(call: &Call) -> bool {
    call.key.ends_with(".m3u8")
}

pub fn manifests(call: &Call) -> bool {
    call.key.ends_with(".json")
}

/// A request and what its sender was told.
#[derive(Clone, Debug)]
pub struct Seen {
    pub call: Call,
    /// None: the connection broke instead.
    pub status: Option<u16>,
}

type Matches = Arc<dyn Fn(&Call) -> bool + Send + Sync>;

/// Dropped, it ends all connections.
#[derive(Debug)]
pub struct S3Proxy {
    address: SocketAddr,
    away: watch::Sender<bool>,
    shared: Arc<Shared>,
    _runtime: Runtime,
    /// Bound and never listening: while connections are refused, nobody else is given the port.
    _port: TcpSocket,
}

struct Shared {
    store: SocketAddr,
    fault: Mutex<Option<(Fault, Matches)>>,
    holds: Mutex<Vec<Arc<hold::State>>>,
    seen: Mutex<Vec<Seen>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("store", &self.store).finish_non_exhaustive()
    }
}

impl S3Proxy {
    pub fn to(s3: &S3) -> Result<Self> {
        let store: SocketAddr = s3.endpoint().trim_start_matches("http://").parse().context("the server's address")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let port = reusable((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = port.local_addr()?;
        let shared = Arc::new(Shared { store, fault: Mutex::default(), holds: Mutex::default(), seen: Mutex::default() });
        let (away, is_away) = watch::channel(false);
        let listener = runtime.block_on(async { listen(address) })?;
        runtime.spawn(serve(listener, shared.clone(), is_away));
        Ok(Self { address, away, shared, _runtime: runtime, _port: port })
    }

    /// In place of the server's.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections break, and new ones are refused, until [`Self::come_back`].
    pub fn go_away(&self) {
        self.away.send_replace(true);
    }

    pub fn come_back(&self) {
        self.away.send_replace(false);
    }

    /// From now on, in place of the fault before, on requests that match.
    pub fn inflict(&self, fault: Fault, on: impl Fn(&Call) -> bool + Send + Sync + 'static) {
        *lock(&self.shared.fault) = Some((fault, Arc::new(on)));
    }

    pub fn heal(&self) {
        *lock(&self.shared.fault) = None;
    }

    /// Requests that match stop at `point` until the hold is released or dropped.
    pub fn hold(&self, point: Point, on: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Hold {
        let state = hold::State::new(point, Arc::new(on));
        lock(&self.shared.holds).push(state.clone());
        Hold::new(state)
    }

    /// All requests that have been answered, in the order of their answers.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Waits for `count` more requests of a kind than there were.
    pub fn wait_for(&self, what: &str, count: usize, limit: Duration, kind: impl Fn(&Seen) -> bool) -> Result<()> {
        let so_many = || lock(&self.shared.seen).iter().filter(|seen| kind(seen)).count();
        let enough = so_many() + count;
        wait_until(&format!("{count} times: {what}"), limit, || (so_many() >= enough).then_some(()))
    }
}

fn reusable(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    Ok(reusable(address)?.listen(BACKLOG)?)
}

async fn serve(mut listener: TcpListener, shared: Arc<Shared>, mut away: watch::Receiver<bool>) -> Result<Infallible> {
    let address = listener.local_addr()?;
    loop {
        let mut connections = JoinSet::new();
        while !*away.borrow_and_update() {
            tokio::select! {
                _ = away.changed() => {}
                client = listener.accept() => drop(connections.spawn(connection(client?.0, shared.clone()))),
                Some(_) = connections.join_next() => {}
            }
        }
        drop((listener, connections));
        away.wait_for(|away| !away).await?;
        listener = listen(address)?;
    }
}

/// An error of a request is the end of its connection, which is all that its sender may learn.
async fn connection(client: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| shared.answer(request));
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service).await;
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let call = Call::of(&request);
        self.wait_at(Point::Request, &call).await?;
        let fault = lock(&self.fault).as_ref().filter(|(_, on)| on(&call)).map(|(fault, _)| *fault);
        let answer = match fault {
            None => self.forward(request.map(|body| self.in_parts(body::whole(body), &call))).await,
            Some(fault) => fault::answer(fault, request, |request| self.forward(request)).await,
        };
        let answer = self.wait_at(Point::Answer, &call).await.and(answer);
        lock(&self.seen).push(Seen { call, status: answer.as_ref().ok().map(|answer| answer.status().as_u16()) });
        answer
    }

    fn holding(&self, point: Point, call: &Call) -> Vec<Arc<hold::State>> {
        lock(&self.holds).iter().filter(|hold| hold.concerns(point, call)).cloned().collect()
    }

    async fn wait_at(&self, point: Point, call: &Call) -> Result<()> {
        for hold in self.holding(point, call) {
            hold.stop(call).await?;
        }
        Ok(())
    }

    fn in_parts(&self, mut body: Body, call: &Call) -> Body {
        let half = body.size_hint().lower() as usize / 2;
        for hold in self.holding(Point::Part, call) {
            let call = call.clone();
            body = body::pausing(body, half, async move { hold.stop(&call).await });
        }
        body
    }

    async fn forward(&self, request: Request<Body>) -> Result<Response<Body>> {
        let store = TcpStream::connect(self.store).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(store)).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?.map(body::whole))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
