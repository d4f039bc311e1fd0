//! A network that loses: UDP between one client and a server's ports, in user space, since not every kernel has netem.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Either way. Without it a retransmission is there before anybody has missed the packet.
const DELAY: Duration = Duration::from_millis(10);
/// On the way at once: 10 ms of more than any test sends.
const IN_FLIGHT: usize = 4096;
const LARGEST_DATAGRAM: usize = 2048;

/// What the network does to packets at the moment, and what it did.
#[derive(Debug, Default)]
pub struct Weather {
    loss_per_mille: AtomicU32,
    black_hole: AtomicBool,
    dropped: AtomicU64,
    passed: AtomicU64,
}

impl Weather {
    /// Of the server's RTP packets. RTCP always passes: its loss would be a different experiment.
    pub fn lose(&self, per_mille: u32) {
        self.loss_per_mille.store(per_mille, Ordering::Relaxed);
    }

    /// Nothing passes, in either direction.
    pub fn black_hole(&self, on: bool) {
        self.black_hole.store(on, Ordering::Relaxed);
    }

    /// RTP packets of the server that were lost, black holes apart.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    fn swallows(&self) -> bool {
        self.black_hole.load(Ordering::Relaxed)
    }

    /// Decides over a packet of the server.
    fn loses(&self, packet: &[u8], chance: u32) -> bool {
        if self.swallows() {
            return true;
        }
        if !is_rtp(packet) {
            return false;
        }
        let lost = chance % 1000 < self.loss_per_mille.load(Ordering::Relaxed);
        if lost { &self.dropped } else { &self.passed }.fetch_add(1, Ordering::Relaxed);
        lost
    }
}

/// RFC 7983 tells RTP and RTCP from STUN and DTLS, RFC 5761 section 4 RTP from RTCP.
fn is_rtp(packet: &[u8]) -> bool {
    matches!(packet, [128..=191, second, ..] if !(192..=223).contains(second))
}

/// A port that stands for `server` towards one client.
pub async fn relay(server: SocketAddr, weather: Arc<Weather>) -> io::Result<SocketAddr> {
    let front = Arc::new(UdpSocket::bind((server.ip(), 0)).await?);
    let back = Arc::new(UdpSocket::bind((server.ip(), 0)).await?);
    back.connect(server).await?;
    let address = front.local_addr()?;
    let client = Arc::new(Mutex::new(None));
    tokio::spawn(towards_server(front.clone(), back.clone(), client.clone(), weather.clone()));
    tokio::spawn(towards_client(front, back, client, weather));
    Ok(address)
}

/// Where the client's last packet came from.
type Client = Arc<Mutex<Option<SocketAddr>>>;

async fn towards_server(front: Arc<UdpSocket>, back: Arc<UdpSocket>, client: Client, weather: Arc<Weather>) {
    let mut buffer = [0; LARGEST_DATAGRAM];
    let line = delayed(move |packet| drop(back.try_send(&packet)));
    while let Ok((length, from)) = front.recv_from(&mut buffer).await {
        *client.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
        if !weather.swallows() {
            let _ = line.try_send((Instant::now() + DELAY, buffer[..length].to_vec()));
        }
    }
}

async fn towards_client(front: Arc<UdpSocket>, back: Arc<UdpSocket>, client: Client, weather: Arc<Weather>) {
    let mut buffer = [0; LARGEST_DATAGRAM];
    // Xorshift: the same losses in every run that sends the same packets.
    let mut chance = 12_345_u32;
    let line = delayed(move |packet| {
        if let Some(to) = *client.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = front.try_send_to(&packet, to);
        }
    });
    // A port that is not open yet is an error of one packet, not of the socket.
    loop {
        let Ok(length) = back.recv(&mut buffer).await else { continue };
        chance ^= chance << 13;
        chance ^= chance >> 17;
        chance ^= chance << 5;
        if !weather.loses(&buffer[..length], chance) && line.try_send((Instant::now() + DELAY, buffer[..length].to_vec())).is_err() {
            return;
        }
    }
}

/// Calls `arrive` for each packet when it is due.
fn delayed(arrive: impl Fn(Vec<u8>) + Send + 'static) -> mpsc::Sender<(Instant, Vec<u8>)> {
    let (line, mut packets) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    tokio::spawn(async move {
        while let Some((due, packet)) = packets.recv().await {
            tokio::time::sleep_until(due).await;
            arrive(packet);
        }
    });
    line
}
