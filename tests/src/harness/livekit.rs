//! A real LiveKit server.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::ports;
use super::process::{Process, Spec};

/// Unlike any word that a log could hold by chance: tests look for it where it must not be.
const KEY: &str = "APIkeyOfTheHarness";
const SECRET: &str = "a-secret-of-at-least-32-characters";
/// Two per participant and direction are used; a test has under twenty.
const MEDIA_PORTS: u16 = 100;
const CONFIG_FILE: &str = "livekit.yaml";
const START_TIMEOUT: Duration = Duration::from_secs(20);
const TOKEN_VALIDITY: Duration = Duration::from_secs(3600);

/// A running server. Dropped, it stops.
#[derive(Debug)]
pub struct LiveKit {
    ip: IpAddr,
    port: u16,
    process: Process,
    secret: String,
    config: Config,
    folder: tempfile::TempDir,
}

/// What the configuration file says besides the secret.
#[derive(Debug)]
struct Config {
    ip: IpAddr,
    port: u16,
    media: u16,
    sections: String,
}

impl LiveKit {
    /// On loopback, with LiveKit's own defaults for everything but addresses.
    pub fn start() -> Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST.into())
    }

    /// On an address of this machine, such as [`super::cluster::GATEWAY`] for pods to reach it.
    pub fn start_on(ip: IpAddr) -> Result<Self> {
        Self::start_with(ip, "")
    }

    /// With further sections of LiveKit's YAML, such as `room: {departure_timeout: 1}`.
    pub fn start_with(ip: IpAddr, sections: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (port, media) = (ports::free_range(ip, 2)?, ports::free_range(ip, MEDIA_PORTS)?);
        let config = Config { ip, port, media, sections: sections.to_owned() };
        let file = folder.path().join(CONFIG_FILE);
        config.write(&file, SECRET)?;
        let process = Spec::new("livekit", super::tool("livekit-server")?)?.arg("--config").arg(&file).spawn()?;
        let mut server = Self { ip, port, process, secret: SECRET.to_owned(), config, folder };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// `ws://…`, as SDKs and Recordings take it.
    pub fn url(&self) -> String {
        format!("ws://{}:{}", self.ip, self.port)
    }

    /// `http://…`, for the room service.
    pub fn http_url(&self) -> String {
        format!("http://{}:{}", self.ip, self.port)
    }

    pub fn api_key(&self) -> &'static str {
        KEY
    }

    pub fn api_secret(&self) -> &str {
        &self.secret
    }

    /// A token that joins `room`; `grants` are added to (and replace) the video grants, for example `json!({"hidden": true})`.
    pub fn token(&self, room: &str, identity: &str, grants: Value) -> String {
        self.sign(&self.claims(room, identity, grants))
    }

    /// What such a token says, to be changed and signed.
    pub fn claims(&self, room: &str, identity: &str, grants: Value) -> Value {
        let mut video = json!({"roomJoin": true, "room": room});
        if let (Some(video), Value::Object(grants)) = (video.as_object_mut(), grants) {
            video.extend(grants);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({
            "iss": KEY, "sub": identity, "name": identity, "nbf": now.as_secs().saturating_sub(10),
            "exp": (now + TOKEN_VALIDITY).as_secs(), "video": video,
        })
    }

    pub fn sign(&self, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.secret.as_bytes());
        let signature = ring::hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", encode(signature.as_ref()))
    }

    /// Calls the room service, for example `("ListRooms", json!({}))`.
    pub fn room_service(&self, method: &str, request: Value) -> Result<Value> {
        let room = request.get("room").and_then(Value::as_str).unwrap_or_default().to_owned();
        let token = self.token(&room, "harness", json!({"roomAdmin": true, "roomList": true, "roomCreate": true}));
        let url = format!("{}/twirp/livekit.RoomService/{method}", self.http_url());
        let post = ureq::post(&url).header("Authorization", format!("Bearer {token}")).header("Content-Type", "application/json");
        let mut response = post.send(request.to_string()).with_context(|| format!("failed to call {method}"))?;
        let body = response.body_mut().read_to_string()?;
        serde_json::from_str(&body).with_context(|| format!("{method} did not answer with JSON: {body}"))
    }

    /// SIGKILL; [`Self::restart`] brings it back at the same address.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn restart(&mut self) -> Result<()> {
        self.process.restart()?;
        self.wait_until_ready()
    }

    /// The API secret is another one from the next [`Self::restart`] on: every token signed before is worth nothing then.
    pub fn rotate_secret(&mut self, secret: &str) -> Result<()> {
        self.secret = secret.to_owned();
        self.config.write(&self.folder.path().join(CONFIG_FILE), secret)
    }

    /// For signals and the log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let url = self.http_url();
        self.process.wait_until("an answer", START_TIMEOUT, || ureq::get(&url).call().ok().map(drop))
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Config {
    fn write(&self, path: &Path, secret: &str) -> Result<()> {
        let Self { ip, port, media, sections } = self;
        let yaml = format!(
            "port: {port}\n\
             bind_addresses: ['{ip}']\n\
             rtc:\n\
             \x20 tcp_port: {tcp}\n\
             \x20 port_range_start: {media}\n\
             \x20 port_range_end: {end}\n\
             \x20 use_external_ip: false\n\
             \x20 node_ip: '{ip}'\n\
             \x20 enable_loopback_candidate: {loopback}\n\
             \x20 ips: {{includes: ['{ip}/32']}}\n\
             keys: {{{KEY}: {secret}}}\n\
             logging: {{level: info}}\n\
             {sections}\n",
            tcp = port + 1,
            end = media + MEDIA_PORTS - 1,
            loopback = ip.is_loopback(),
        );
        std::fs::write(path, yaml).with_context(|| format!("failed to write {}", path.display()))
    }
}
