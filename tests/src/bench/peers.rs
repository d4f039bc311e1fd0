//! Other programs that record what a WebRTC publisher sends, each as its own documentation sets it up.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::process::{Process, Spec, wait_until};
use crate::harness::{ports, tool, workspace};
use crate::load::Target;

const START_TIMEOUT: Duration = Duration::from_secs(20);
const JANUS_ROOM: u32 = 1;
/// An address for documentation (RFC 5737): nothing is sent by connecting a UDP socket to it.
const ELSEWHERE: &str = "192.0.2.254:9";

/// A running peer, and how to reach it.
pub struct Peer {
    pub process: Process,
    pub target: Target<'static>,
    /// For the load publisher.
    pub flags: Vec<String>,
}

fn loopback(count: u16) -> Result<u16> {
    ports::free_range(IpAddr::from([127, 0, 0, 1]), count)
}

/// `webrtcbin ! rtph264depay ! h264parse ! splitmuxsink (mpegtsmux)`, Opus to AAC: tests/bench/gstreamer_recorder.py.
pub fn gstreamer(folder: &Path) -> Result<Peer> {
    let port = loopback(1)?;
    let script = workspace().join("tests/bench/gstreamer_recorder.py");
    // Debian's Python: PyGObject is a package of the system.
    let mut process = Spec::new("gstreamer", "/usr/bin/python3")?.arg(script).arg(port.to_string()).arg(folder).spawn()?;
    process.wait_for_line("listening", START_TIMEOUT)?;
    Ok(Peer { process, target: Target::Whip(format!("http://127.0.0.1:{port}/whip")), flags: not_loopback()? })
}

/// The videoroom plugin with `record = true`.
pub fn janus(folder: &Path) -> Result<Peer> {
    let (api, media) = (loopback(1)?, loopback(200)?);
    let config = tempfile::tempdir()?.keep();
    let write = |name: &str, text: String| std::fs::write(config.join(name), text);
    let libraries = janus_libraries()?;
    write(
        "janus.jcfg",
        format!(
            "general: {{ configs_folder = \"{config}\" plugins_folder = \"{libraries}/plugins\" transports_folder = \"{libraries}/transports\"
  events_folder = \"{libraries}/events\" loggers_folder = \"{libraries}/loggers\" debug_level = 3 }}
media: {{ rtp_port_range = \"{media}-{end}\" }}
nat: {{ ice_tcp = false ignore_mdns = true }}
plugins: {{ disable = \"libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,libjanus_nosip.so,libjanus_recordplay.so,libjanus_sip.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_voicemail.so\" }}
transports: {{ disable = \"libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so,libjanus_websockets.so\" }}
events: {{ broadcast = false }}
",
            config = config.display(),
            end = media + 199,
        ),
    )?;
    write(
        "janus.plugin.videoroom.jcfg",
        format!(
            "room-{JANUS_ROOM}: {{ publishers = 50 bitrate = 4000000 fir_freq = 0 audiocodec = \"opus\" videocodec = \"h264\" record = true rec_dir = \"{}\" }}\n",
            folder.display()
        ),
    )?;
    let http = format!("general: {{ base_path = \"/janus\" http = true port = {api} ip = \"127.0.0.1\" https = false }}\n");
    write("janus.transport.http.jcfg", http)?;
    let mut process = Spec::new("janus", "janus")?.arg("-F").arg(&config).arg("-C").arg(config.join("janus.jcfg")).spawn()?;
    let url = format!("http://127.0.0.1:{api}/janus");
    process.wait_until("an answer", START_TIMEOUT, || ureq::get(&format!("{url}/info")).call().ok().map(drop))?;
    Ok(Peer { process, target: Target::Janus { api: url, room: JANUS_ROOM }, flags: not_loopback()? })
}

fn janus_libraries() -> Result<String> {
    let found = std::fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path().join("janus")).find(|path| path.is_dir());
    Ok(found.context("Janus is not installed: scripts/setup.sh bench")?.display().to_string())
}

/// libnice, which GStreamer and Janus use, leaves loopback out: media goes by the address that this machine talks to others from.
fn not_loopback() -> Result<Vec<String>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(ELSEWHERE).context("this machine has no address but loopback, and libnice uses none of that")?;
    Ok(vec!["-media-ip".to_owned(), socket.local_addr()?.ip().to_string()])
}

/// MediaMTX, every protocol off but WebRTC, `recordFormat: mpegts`.
pub fn mediamtx(folder: &Path) -> Result<Peer> {
    let (http, media) = (loopback(1)?, loopback(1)?);
    let config = folder.join("mediamtx.yml");
    std::fs::write(
        &config,
        format!(
            "logLevel: info
rtsp: no
rtmp: no
hls: no
srt: no
moq: no
webrtc: yes
webrtcAddress: 127.0.0.1:{http}
webrtcLocalUDPAddress: 127.0.0.1:{media}
webrtcIPsFromInterfaces: yes
webrtcIPsFromInterfacesList: [lo]
pathDefaults: {{record: yes, recordFormat: mpegts, recordSegmentDuration: 15s, recordPath: '{}/%path/%Y%m%d%H%M%S%f'}}
paths: {{all_others: }}
",
            folder.display()
        ),
    )?;
    let mut process = Spec::new("mediamtx", tool("mediamtx")?)?.arg(&config).spawn()?;
    process.wait_for_line("[WebRTC] started", START_TIMEOUT)?;
    Ok(Peer { process, target: Target::Whip(format!("http://127.0.0.1:{http}/p%d/whip")), flags: vec![] })
}

/// tests/tools/floor: receive, decrypt, write. What no recorder can go below.
pub fn floor(folder: &Path, participants: u32) -> Result<Peer> {
    let count = u16::try_from(participants)?;
    let port = loopback(count)?;
    let mut process =
        Spec::new("floor", tool("floor")?)?.args([port.to_string(), count.to_string(), folder.display().to_string()]).spawn()?;
    process.wait_for_line("listening", START_TIMEOUT)?;
    Ok(Peer { process, target: Target::Srtp(format!("127.0.0.1:{port}")), flags: vec![] })
}

/// Bytes below a folder, once they do not grow any more.
///
/// # Errors
/// When nothing was stored.
pub fn stored_bytes(folder: &Path) -> Result<u64> {
    let mut last = u64::MAX;
    let bytes = wait_until("the files to be complete", START_TIMEOUT, || {
        let now = bytes_below(folder);
        let settled = now == last;
        last = now;
        settled.then_some(now)
    })?;
    ensure!(bytes > 0, "nothing was stored in {}", folder.display());
    Ok(bytes)
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().map_or(0, |m| m.len()) }).sum()
}
