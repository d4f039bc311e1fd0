//! A peer connection that receives: the answering side of an SFU.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rtc::interceptor::{Registry, Slot};
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::interceptor_registry::{configure_rtcp_reports, configure_twcc_receiver_only};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::{RTCIceCandidateInit, RTCIceServer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use webrtc::data_channel::DataChannel;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    SrtpProtectionProfile,
};

use super::batching::BatchingRuntime;
use super::formats::{Formats, udp_candidates};
use super::intake::Intake;
use super::nack::NackGenerator;
use super::track_names::TrackNames;
use super::{media_engine, pump, sender_reports};

/// Candidates and changes of state waiting for the connector; it reads them at once, so more than this never wait.
const PEER_EVENTS: usize = 256;
/// For one answer or one close: the crate works on these for milliseconds.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Addresses named in a message.
const NAMED_CANDIDATES_MAX: usize = 3;

/// What a peer connection tells its connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerEvent {
    /// Ours, as JSON (`RTCIceCandidateInit`).
    Candidate(String),
    Up,
    /// May come back by itself.
    Down,
    /// Will not come back.
    Failed,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct PeerConfig {
    /// Also use 127.0.0.1: the SFU is on this machine.
    pub(crate) loopback: bool,
    /// Nothing else than that.
    pub(crate) loopback_only: bool,
    pub(crate) ice_servers: Vec<RTCIceServer>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("failed to set up a peer connection: {0}")]
    Setup(String),
    #[error("failed to answer the SFU's offer: {0}")]
    Offer(String),
    #[error("the peer connection did not answer within {} s", NEGOTIATION_TIMEOUT.as_secs())]
    Stuck,
}

/// What the offers have told: for the tasks that read tracks.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) formats: Formats,
    pub(crate) names: TrackNames,
}

pub(crate) struct Peer {
    connection: Arc<dyn PeerConnection>,
    told: Arc<Mutex<Told>>,
    closed: CancellationToken,
    /// Remote candidates that came before the first offer.
    early_candidates: Vec<RTCIceCandidateInit>,
    has_offer: bool,
    /// Every offer names them again.
    remote_addresses: BTreeSet<String>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("has_offer", &self.has_offer).finish_non_exhaustive()
    }
}

impl Peer {
    /// # Errors
    /// [`PeerError::Setup`] when no socket can be bound.
    pub(crate) async fn new(config: PeerConfig, intake: &Arc<Intake>) -> Result<(Self, mpsc::Receiver<PeerEvent>), PeerError> {
        let (events, receiver) = mpsc::channel(PEER_EVENTS);
        let told = Arc::<Mutex<Told>>::default();
        let closed = CancellationToken::new();
        intake.forget_streams();
        let handler = Handler { events, intake: intake.clone(), told: told.clone(), closed: closed.clone() };
        let connection = connect(config, intake, Arc::new(handler)).await.map_err(PeerError::Setup)?;
        let peer = Self { connection, told, closed, early_candidates: vec![], has_offer: false, remote_addresses: BTreeSet::new() };
        Ok((peer, receiver))
    }

    /// Takes an offer, the first or a later one, and gives the answer. Offers are answered one after the other: `&mut self`.
    ///
    /// # Errors
    /// [`PeerError::Offer`] for one that the crate does not take.
    pub(crate) async fn answer(&mut self, offer: &str) -> Result<String, PeerError> {
        self.remote_addresses.extend(udp_candidates(offer));
        let offer = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.formats.learn(offer);
            told.names.learn(offer)
        };
        match tokio::time::timeout(NEGOTIATION_TIMEOUT, self.negotiate(offer)).await {
            Ok(answer) => answer,
            Err(_) => Err(PeerError::Stuck),
        }
    }

    async fn negotiate(&mut self, offer: String) -> Result<String, PeerError> {
        let failed = |error: rtc::shared::error::Error| PeerError::Offer(error.to_string());
        let description = RTCSessionDescription::offer(offer).map_err(failed)?;
        self.connection.set_remote_description(description).await.map_err(failed)?;
        self.has_offer = true;
        for candidate in std::mem::take(&mut self.early_candidates) {
            self.add(candidate).await;
        }
        let answer = self.connection.create_answer(None).await.map_err(failed)?;
        self.connection.set_local_description(answer).await.map_err(failed)?;
        let local = self.connection.local_description().await;
        local.map(|description| description.sdp).ok_or_else(|| PeerError::Offer("no local description".into()))
    }

    /// The SFU's candidate, as JSON; before the first offer it waits for that.
    pub(crate) async fn add_candidate(&mut self, json: &str) {
        let Ok(candidate) = serde_json::from_str::<RTCIceCandidateInit>(json) else {
            tracing::debug!("the SFU sent a candidate that is not one");
            return;
        };
        if candidate.candidate.is_empty() {
            return;
        }
        self.remote_addresses.extend(udp_candidates(&candidate.candidate));
        if self.has_offer {
            self.add(candidate).await;
        } else {
            self.early_candidates.push(candidate);
        }
    }

    async fn add(&self, candidate: RTCIceCandidateInit) {
        if let Err(error) = self.connection.add_ice_candidate(candidate).await {
            tracing::debug!(%error, "a candidate was not taken");
        }
    }

    /// What a person has to open when no path was found.
    pub(crate) fn remedy(&self) -> String {
        let addresses: Vec<&str> = self.remote_addresses.iter().take(NAMED_CANDIDATES_MAX).map(String::as_str).collect();
        if addresses.is_empty() {
            return "the SFU named no UDP address".into();
        }
        format!("UDP egress to {} is blocked", addresses.join(", "))
    }

    pub(crate) async fn close(self) {
        self.closed.cancel();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.connection.close()).await.is_err() {
            tracing::warn!("a peer connection did not close in time");
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

async fn connect(config: PeerConfig, intake: &Arc<Intake>, handler: Arc<Handler>) -> Result<Arc<dyn PeerConnection>, String> {
    let text = |error: rtc::shared::error::Error| error.to_string();
    let mut engine = media_engine::receiving().map_err(text)?;
    let registry = configure_twcc_receiver_only(configure_rtcp_reports(Registry::new()), &mut engine).map_err(text)?;
    let registry = registry.with(Slot::NackGenerator, NackGenerator::new(intake.counters.clone()));
    let tapped = intake.clone();
    let provider = sender_reports::provider(Arc::new(move |report| tapped.sender_report(report))).map_err(|error| error.to_string())?;
    // With AES-CM the crate takes an SRTCP packet whose E flag is 0 without checking its tag; with GCM forgeries are refused.
    let profiles = vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm];
    let settings = SettingEngineBuilder::new()
        .with_crypto_provider(provider)
        .with_srtp_protection_profiles(profiles)
        .with_include_loopback_candidate(config.loopback);
    let addresses = if config.loopback_only { vec!["127.0.0.1:0"] } else { local_addresses(config.loopback) };
    let connection = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().with_ice_servers(config.ice_servers).build())
        .with_media_engine(engine)
        .with_interceptor_registry(registry)
        .with_setting_engine(settings.build())
        .with_handler(handler)
        .with_runtime(BatchingRuntime::new())
        .with_udp_addrs(addresses)
        .build()
        .await
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(connection))
}

/// A wildcard is one socket per interface address, loopback and link-local left out.
fn local_addresses(loopback: bool) -> Vec<&'static str> {
    let mut addresses = vec!["0.0.0.0:0"];
    if loopback {
        addresses.insert(0, "127.0.0.1:0");
    }
    // Connecting a UDP socket sends nothing; it fails when the machine has no IPv6 route. (2001:db8::/32 is documentation space.)
    let probe = std::net::UdpSocket::bind("[::]:0").and_then(|socket| socket.connect("[2001:db8::1]:9"));
    if probe.is_ok() {
        addresses.push("[::]:0");
    }
    addresses
}

/// Holds no way back to the connection, or neither would ever be freed.
struct Handler {
    events: mpsc::Sender<PeerEvent>,
    intake: Arc<Intake>,
    told: Arc<Mutex<Told>>,
    closed: CancellationToken,
}

impl Handler {
    fn tell(&self, event: PeerEvent) {
        if self.events.try_send(event).is_err() {
            tracing::debug!("nobody listens to this peer connection any more");
        }
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let json = event.candidate.to_json().ok().and_then(|init| serde_json::to_string(&init).ok());
        if let Some(json) = json {
            self.tell(PeerEvent::Candidate(json));
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        tracing::debug!(%state, "peer connection");
        match state {
            RTCPeerConnectionState::Connected => self.tell(PeerEvent::Up),
            RTCPeerConnectionState::Disconnected => self.tell(PeerEvent::Down),
            RTCPeerConnectionState::Failed => self.tell(PeerEvent::Failed),
            _ => {}
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        // Chat and the like: read, so that it does not pile up, and not recorded.
        let closed = self.closed.clone();
        tokio::spawn(async move {
            let drain = async { while channel.poll().await.is_some() {} };
            tokio::select! { () = closed.cancelled() => {}, () = drain => {} }
        });
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        tokio::spawn(pump::run(track, self.intake.clone(), self.told.clone(), self.closed.clone()));
    }
}
