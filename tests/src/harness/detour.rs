//! A way to a LiveKit server that tests can disturb: signalling passes through a proxy, which sends media through [`super::relay`].
//!
//! The proxy puts the relay's ports in place of the server's candidates, and takes the client's candidates out, so that the server knows
//! no other way to the client.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt};
use livekit_protocol as proto;
use prost::Message;
use proto::{signal_request, signal_response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::livekit::LiveKit;
use super::relay::{self, Weather};

/// Of an HTTP request or response: a token is the longest header, far below this.
const LARGEST_HEAD: usize = 64 << 10;

/// Dropped, it ends all connections.
#[derive(Debug)]
pub struct Detour {
    pub weather: Arc<Weather>,
    address: SocketAddr,
    cut: watch::Sender<()>,
    connections: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Detour {
    pub fn to(livekit: &LiveKit) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let server: SocketAddr = livekit.url().trim_start_matches("ws://").parse().context("the server's address")?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let (weather, connections) = (Arc::<Weather>::default(), Arc::<AtomicUsize>::default());
        let (cut, cuts) = watch::channel(());
        let address = listener.local_addr()?;
        let ports = Arc::new(Ports { relays: Mutex::default(), weather: weather.clone() });
        runtime.spawn(accept(listener, server, ports, cuts, connections.clone()));
        Ok(Self { weather, address, cut, connections, _runtime: runtime })
    }

    /// In place of the server's.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Ends every signalling connection without a goodbye.
    pub fn cut_signalling(&self) {
        self.cut.send_replace(());
    }

    /// Signalling connections that were opened so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    ports: Arc<Ports>,
    mut cuts: watch::Receiver<()>,
    connections: Arc<AtomicUsize>,
) {
    while let Ok((client, _)) = listener.accept().await {
        cuts.mark_unchanged();
        let (ports, mut cut, connections) = (ports.clone(), cuts.clone(), connections.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = cut.changed() => {}
                _ = pass(client, server, &ports, &connections) => {}
            }
        });
    }
}

/// One connection: the WebSocket's handshake as it is, then messages.
async fn pass(mut client: TcpStream, server: SocketAddr, ports: &Ports, connections: &AtomicUsize) -> Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (request, _) = head(&mut client).await?;
    server.write_all(&request).await?;
    let (response, rest) = head(&mut server).await?;
    client.write_all(&response).await?;
    if !response.starts_with(b"HTTP/1.1 101") {
        client.write_all(&rest).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    connections.fetch_add(1, Ordering::Relaxed);
    let mut client = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
    let mut server = WebSocketStream::from_partially_read(server, rest, Role::Client, None).await;
    loop {
        tokio::select! {
            frame = client.next() => {
                if let Some(frame) = from_client(frame.context("closed by the client")??)? {
                    server.send(frame).await?;
                }
            }
            frame = server.next() => client.send(ports.relayed(frame.context("closed by the server")??).await?).await?,
        }
    }
}

/// Up to the empty line, and what was read behind it.
async fn head(stream: &mut TcpStream) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut text = Vec::new();
    loop {
        ensure!(stream.read_buf(&mut text).await? > 0 && text.len() < LARGEST_HEAD, "no HTTP");
        if let Some(end) = text.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = text.split_off(end + 4);
            return Ok((text, rest));
        }
    }
}

/// The client's candidates are nobody's business.
fn from_client(frame: Frame) -> Result<Option<Frame>> {
    let Frame::Binary(bytes) = &frame else { return Ok(Some(frame)) };
    let mut request = proto::SignalRequest::decode(&bytes[..])?;
    match &mut request.message {
        Some(signal_request::Message::Trickle(_)) => return Ok(None),
        Some(signal_request::Message::Answer(answer)) => without_candidates(answer),
        Some(signal_request::Message::SyncState(state)) => state.answer.iter_mut().chain(&mut state.offer).for_each(without_candidates),
        _ => {}
    }
    Ok(Some(Frame::Binary(request.encode_to_vec().into())))
}

fn without_candidates(description: &mut proto::SessionDescription) {
    let kept = description.sdp.split_inclusive('\n').filter(|line| !line.starts_with("a=candidate:"));
    description.sdp = kept.collect();
}

/// The server's ports, and those that stand for them.
#[derive(Debug)]
struct Ports {
    relays: Mutex<HashMap<SocketAddr, SocketAddr>>,
    weather: Arc<Weather>,
}

impl Ports {
    async fn relayed(&self, frame: Frame) -> Result<Frame> {
        let Frame::Binary(bytes) = &frame else { return Ok(frame) };
        let mut response = proto::SignalResponse::decode(&bytes[..])?;
        match &mut response.message {
            Some(signal_response::Message::Offer(offer)) => offer.sdp = self.description(&offer.sdp).await?,
            Some(signal_response::Message::Trickle(trickle)) => trickle.candidate_init = self.init(&trickle.candidate_init).await?,
            _ => {}
        }
        Ok(Frame::Binary(response.encode_to_vec().into()))
    }

    async fn description(&self, sdp: &str) -> Result<String> {
        let mut out = String::new();
        for line in sdp.split_inclusive('\n') {
            match line.strip_prefix("a=candidate:") {
                Some(candidate) => match self.candidate(candidate).await? {
                    Some(candidate) => out += &format!("a=candidate:{candidate}\r\n"),
                    None => continue,
                },
                None => out += line,
            }
        }
        Ok(out)
    }

    /// RTCIceCandidateInit, as JSON.
    async fn init(&self, json: &str) -> Result<String> {
        let mut init: serde_json::Value = serde_json::from_str(json)?;
        if let Some(candidate) = init["candidate"].as_str().filter(|text| !text.is_empty()) {
            init["candidate"] = self.candidate(candidate).await?.unwrap_or_default().into();
        }
        Ok(init.to_string())
    }

    /// RFC 8839: foundation, component, transport, priority, address, port, …; None for one that is not UDP.
    async fn candidate(&self, text: &str) -> Result<Option<String>> {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let [_, _, transport, _, address, port, ..] = &words[..] else { bail!("no candidate: {text}") };
        if !transport.eq_ignore_ascii_case("udp") {
            return Ok(None);
        }
        let server: SocketAddr = format!("{address}:{port}").parse()?;
        let mut relays = self.relays.lock().await;
        let relay = match relays.get(&server) {
            Some(relay) => *relay,
            None => relay::relay(server, self.weather.clone()).await?,
        };
        relays.insert(server, relay);
        words[5] = relay.port().to_string();
        Ok(Some(words.join(" ")))
    }
}
