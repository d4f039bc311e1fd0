//! Sockets that are read in batches.
//!
//! What receiving costs is wake-ups: the crate goes round its whole loop for every datagram that wakes it, but then takes up to 64 more
//! that are there. Nobody watches live, so a socket rests for a moment after each batch, and whatever comes meanwhile is read together.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, TokioRuntime, Transmit, UdpSockRef,
    UdpSocketState,
};

/// Arrival times are late by up to this, and what is lost is asked for later by it: little beside the network's own jitter.
const REST: Duration = Duration::from_millis(10);
/// A socket that nothing came to for so long ...
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// ... is looked at this often.
const QUIET_REST: Duration = Duration::from_millis(50);
/// A full send buffer is tried again after this; we send little.
const SEND_REST: Duration = Duration::from_millis(1);
/// What may arrive during a rest and one round of work: half a second of 30 cameras. The kernel grants what `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The crate's tokio runtime with sockets that rest.
#[derive(Debug)]
pub(super) struct BatchingRuntime(TokioRuntime);

impl BatchingRuntime {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(TokioRuntime))
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for BatchingRuntime {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        self.0.spawn(future)
    }
    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(RestingSocket::new(socket)?))
    }
    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.0.wrap_tcp_listener(listener)
    }
    fn connect_tcp<'a>(&'a self, remote: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.0.connect_tcp(remote)
    }
    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        self.0.resolve_host(host)
    }
    fn now(&self) -> Instant {
        self.0.now()
    }
    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        self.0.sleep(duration)
    }
    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.0.interval(period)
    }
    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.0.block_on(future);
    }
    fn yield_now(&self) -> Boxed<'static, ()> {
        self.0.yield_now()
    }
    fn name(&self) -> &'static str {
        "tokio, batching"
    }
}

/// A socket that no readiness is waited for: it is looked at by the clock. (Waiting for readiness would wake the thread for every
/// datagram, also during a rest.)
struct RestingSocket {
    io: std::net::UdpSocket,
    batch: UdpSocketState,
    reading: Mutex<Rest>,
    writing: Mutex<Rest>,
}

#[derive(Default)]
struct Rest {
    until: Option<Pin<Box<tokio::time::Sleep>>>,
    last_read: Option<Instant>,
}

impl Rest {
    /// Ready when it is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(until) = &mut self.until {
            std::task::ready!(until.as_mut().poll(cx));
            self.until = None;
        }
        Poll::Ready(())
    }

    /// Begins, and has the caller woken at its end.
    fn begin(&mut self, length: Duration, cx: &mut Context<'_>) {
        let until = self.until.insert(Box::pin(tokio::time::sleep(length)));
        if until.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn length(&self) -> Duration {
        if self.last_read.is_some_and(|at| at.elapsed() < QUIET_AFTER) { REST } else { QUIET_REST }
    }
}

impl RestingSocket {
    fn new(io: std::net::UdpSocket) -> io::Result<Self> {
        io.set_nonblocking(true)?;
        // Less is no error: the kernel has its own limit.
        let _ = socket2::SockRef::from(&io).set_recv_buffer_size(RECEIVE_BUFFER);
        let batch = UdpSocketState::new(UdpSockRef::from(&io))?;
        let reading = Mutex::new(Rest { last_read: Some(Instant::now()), until: None });
        Ok(Self { io, batch, reading, writing: Mutex::default() })
    }
}

impl std::fmt::Debug for RestingSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RestingSocket").field(&self.io).finish()
    }
}

impl AsyncUdpSocket for RestingSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let mut rest = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        std::task::ready!(rest.poll(cx));
        match self.batch.try_send(UdpSockRef::from(&self.io), transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                rest.begin(SEND_REST, cx);
                Poll::Pending
            }
            sent => Poll::Ready(sent.map(|()| transmit.contents.len())),
        }
    }

    /// The crate polls until nothing is left; that begins the rest.
    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let mut rest = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        std::task::ready!(rest.poll(cx));
        match self.batch.recv(UdpSockRef::from(&self.io), bufs, meta) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let length = rest.length();
                rest.begin(length, cx);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
            Ok(count) => {
                rest.last_read = Some(Instant::now());
                // An empty datagram has a stride of 0, by which the crate would divide.
                meta[..count].iter_mut().filter(|m| m.stride == 0).for_each(|m| m.stride = m.len.max(1));
                Poll::Ready(Ok(count))
            }
        }
    }

    fn max_gso_segments(&self) -> usize {
        self.batch.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.batch.gro_segments()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(socket: &Arc<dyn AsyncUdpSocket>) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let (length, _) = socket.recv_from(&mut buffer).await.expect("a datagram");
        buffer[..length].to_vec()
    }

    /// Whether something can be read without waiting.
    fn probe(socket: &Arc<dyn AsyncUdpSocket>) -> bool {
        take(socket).is_some()
    }

    fn probe_for(socket: &Arc<dyn AsyncUdpSocket>, wanted: &[u8]) -> bool {
        take(socket).is_some_and(|found| found == wanted)
    }

    fn take(socket: &Arc<dyn AsyncUdpSocket>) -> Option<Vec<u8>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut buffer, mut meta) = ([0; 2048], [RecvMeta::default()]);
        let ready = socket.poll_recv(&mut cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta).is_ready();
        ready.then(|| buffer[..meta[0].len].to_vec())
    }

    fn pair() -> (std::net::UdpSocket, Arc<dyn AsyncUdpSocket>) {
        let bind = || std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (sender, receiver) = (bind(), bind());
        sender.connect(receiver.local_addr().expect("bound")).expect("connected");
        (sender, BatchingRuntime::new().wrap_udp_socket(receiver).expect("wrapped"))
    }

    #[tokio::test]
    async fn what_comes_during_a_rest_is_read_behind_it_and_nothing_is_lost() {
        let (sender, socket) = pair();
        sender.send(b"first").expect("sent");
        assert_eq!(read(&socket).await, b"first");
        assert!(!probe(&socket), "nothing is left: the rest begins");
        let since = Instant::now();
        for n in 0..20u8 {
            sender.send(&[n]).expect("sent");
        }
        assert!(!probe(&socket), "it rests, whatever is there");
        assert_eq!(read(&socket).await, [0], "the end of the rest wakes who waits");
        assert!(since.elapsed() + Duration::from_millis(1) >= REST, "{:?}", since.elapsed());
        for n in 1..20u8 {
            assert!(probe_for(&socket, &[n]), "the others follow without a rest between them");
        }
    }

    #[tokio::test]
    async fn what_it_sends_arrives_and_an_empty_datagram_can_be_taken_apart() {
        let (other, socket) = pair();
        let address = other.local_addr().expect("bound");
        assert_eq!(socket.send_to(b"hello", address).await.expect("sent"), 5);
        let mut buffer = [0; 16];
        assert_eq!(other.recv(&mut buffer).expect("received"), 5);
        other.send(&[]).expect("sent");
        let mut meta = [RecvMeta::default()];
        let taken = std::future::poll_fn(|cx| socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)).await;
        assert!(taken.is_ok() && meta[0].len == 0 && meta[0].stride == 1, "{meta:?}");
    }
}
