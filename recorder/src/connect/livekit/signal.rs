//! LiveKit's signalling: protobuf messages over one WebSocket (`/rtc`, protocol 16: the server offers, the recorder answers).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use livekit_protocol as proto;
use prost::Message;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use crate::connect::redact::redact;

pub(crate) use proto::signal_request::Message as Request;
pub(crate) use proto::signal_response::Message as Response;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// The last protocol of the two-connection path, in which no connection of the recorder's own is needed. `sdk` stays unset: the server
/// then offers anew when a track changes its codec instead of switching the payload type in mid-stream. A recorder must never be paused.
const QUERY: &str = "protocol=16&version=0.1.0&adaptive_stream=0&subscriber_allow_pause=0";

/// A server's address, checked.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// `ws[s]://host[:port][/path]/rtc`
    endpoint: String,
    pub(crate) loopback: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct AddressError(&'static str);

impl Address {
    /// # Errors
    /// For what is not a ws, wss, http or https URL.
    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        let uri: Uri = url.trim().parse().map_err(|_| AddressError("not a URL"))?;
        let scheme = match uri.scheme_str() {
            Some("ws" | "http") => "ws",
            Some("wss" | "https") => "wss",
            _ => return Err(AddressError("the URL must begin with ws://, wss://, http:// or https://")),
        };
        let authority = uri.authority().ok_or(AddressError("the URL has no host"))?;
        if authority.as_str().contains('@') {
            return Err(AddressError("the URL must not hold a user or password"));
        }
        let host = authority.host().trim_matches(['[', ']']);
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let endpoint = format!("{scheme}://{authority}{}/rtc", uri.path().trim_end_matches('/'));
        Ok(Self { endpoint, loopback })
    }
}

/// Certificate authorities of the system, and those given as PEM.
///
/// # Errors
/// When the bundle is not PEM or holds no certificate.
pub(crate) fn tls(bundle: Option<&[u8]>) -> Result<Arc<rustls::ClientConfig>, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = bundle {
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| format!("the CA bundle is not PEM: {error}"))?;
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err("the CA bundle holds no certificate".into());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

/// Why there is no WebSocket. Texts hold no token.
#[derive(Debug)]
pub(crate) enum Refused {
    Http { status: u16, body: String },
    Network(String),
}

/// An open WebSocket.
#[derive(Debug)]
pub(crate) struct Signal {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Signal {
    /// `query`: further parameters, each beginning with `&`.
    ///
    /// # Errors
    /// [`Refused`]
    pub(crate) async fn connect(address: &Address, tls: &Arc<rustls::ClientConfig>, token: &str, query: &str) -> Result<Self, Refused> {
        let url = format!("{}?{QUERY}{query}", address.endpoint);
        let mut request = url.into_client_request().map_err(|error| Refused::Network(error.to_string()))?;
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Refused::Http { status: 401, body: "the token holds characters that no header takes".into() })?;
        header.set_sensitive(true);
        request.headers_mut().insert("Authorization", header);
        let connector = Some(Connector::Rustls(tls.clone()));
        let connecting = tokio_tungstenite::connect_async_tls_with_config(request, None, true, connector);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok((socket, _))) => Ok(Self { socket }),
            Ok(Err(tungstenite::Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err(Refused::Http { status: response.status().as_u16(), body: String::from_utf8_lossy(body).into_owned() })
            }
            Ok(Err(error)) => Err(Refused::Network(format!("{}: {}", address.endpoint, redact(&error.to_string())))),
            Err(_) => Err(Refused::Network(format!("{}: no answer within {} s", address.endpoint, CONNECT_TIMEOUT.as_secs()))),
        }
    }

    /// The next message that this version of the protocol knows. Cancel-safe.
    ///
    /// # Errors
    /// The end of the connection, in words.
    pub(crate) async fn next(&mut self) -> Result<Response, String> {
        loop {
            match self.socket.next().await {
                Some(Ok(Frame::Binary(bytes))) => match proto::SignalResponse::decode(&bytes[..]) {
                    Ok(proto::SignalResponse { message: Some(message) }) => return Ok(message),
                    Ok(_) => tracing::debug!("a message of a newer protocol"),
                    Err(error) => tracing::warn!(%error, "an unreadable message"),
                },
                Some(Ok(Frame::Close(frame))) => {
                    let why = frame.map(|frame| redact(&frame.reason)).filter(|why| !why.is_empty());
                    return Err(why.map_or_else(|| "closed by the server".into(), |why| format!("closed by the server: {why}")));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(redact(&error.to_string())),
                None => return Err("closed by the server".into()),
            }
        }
    }

    /// # Errors
    /// The end of the connection, in words.
    pub(crate) async fn send(&mut self, message: Request) -> Result<(), String> {
        let bytes = proto::SignalRequest { message: Some(message) }.encode_to_vec();
        match tokio::time::timeout(SEND_TIMEOUT, self.socket.send(Frame::Binary(bytes.into()))).await {
            Ok(sent) => sent.map_err(|error| redact(&error.to_string())),
            Err(_) => Err("the signalling connection is stuck".into()),
        }
    }

    pub(crate) async fn close(mut self) {
        let _ = tokio::time::timeout(SEND_TIMEOUT, self.socket.close(None)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let endpoint = |url| Address::parse(url).map(|address| (address.endpoint, address.loopback)).map_err(|error| error.to_string());
        assert_eq!(endpoint("https://sfu.example.com"), Ok(("wss://sfu.example.com/rtc".into(), false)));
        assert_eq!(endpoint("ws://127.0.0.1:7880/"), Ok(("ws://127.0.0.1:7880/rtc".into(), true)));
        assert_eq!(endpoint("wss://[::1]:443/a/b?x=1"), Ok(("wss://[::1]:443/a/b/rtc".into(), true)));
        assert_eq!(endpoint("http://localhost:7880"), Ok(("ws://localhost:7880/rtc".into(), true)));
        for wrong in ["", "sfu.example.com", "ftp://x", "wss://user:secret@sfu.example.com"] {
            assert!(endpoint(wrong).is_err_and(|message| !message.contains("secret")), "{wrong}");
        }
    }

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        assert!(tls(None).is_ok());
        assert!(tls(Some(b"not PEM")).is_err());
    }

    #[tokio::test]
    async fn no_error_tells_the_token() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrZXkifQ.c2lnbmF0dXJlLW9mLWl0";
        let tls = tls(None).expect("TLS");
        for url in ["ws://127.0.0.1:1", "ws://host.invalid", "wss://127.0.0.1:1"] {
            let address = Address::parse(url).expect("a URL");
            let refused = Signal::connect(&address, &tls, token, "&x=1").await.expect_err("nobody listens");
            let text = format!("{refused:?}");
            assert!(token.split('.').all(|part| !text.contains(part)), "{text}");
        }
    }
}
