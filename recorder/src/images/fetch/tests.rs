//! Servers on the loopback interface; every URL below holds "secret" where a real one would, and no error may repeat it.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener as Listener};
use std::process::Command;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Loopback as well: what is forbidden where [`ONE`] is allowed.
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const SECRET: &str = "secret-path?X-Amz-Signature=secret-query#secret";
const IMAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage";
const ENDLESS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
/// For what must not come to pass; the tests end by it only when they fail.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

/// Every name has these addresses.
struct Names(Vec<IpAddr>);

impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Vec<_> = self.0.iter().map(|address| SocketAddr::new(*address, 0)).collect();
        Box::pin(async move { Ok(Box::new(addresses.into_iter()) as Addrs) })
    }
}

/// Only [`ONE`] may be connected to.
fn only_one(names: &[IpAddr]) -> Fetcher {
    Fetcher::with(|address| address == ONE, LONG, Names(names.to_vec()), RootCertStore::empty()).expect("a fetcher")
}

fn private_allowed() -> Fetcher {
    Fetcher::new(true).expect("a fetcher")
}

/// Why there is no image; whatever the reason, it holds no secret.
async fn failure(fetcher: &Fetcher, url: &str) -> FetchError {
    let error = fetcher.fetch(url).await.expect_err("no image");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("secret") && !shown.contains("Amz"), "{shown}");
    assert!(shown.starts_with("failed to "), "{shown}");
    error
}

/// A server that gives the answers in turn, one for each connection, and keeps the requests.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn new(answer: impl Fn(SocketAddr) -> String + Send + 'static) -> Self {
        Self::on(TcpListener::bind((ONE, 0)).await.expect("a port"), answer, None)
    }

    async fn saying(answer: &str) -> Self {
        let answer = answer.to_owned();
        Self::new(move |_| answer.clone()).await
    }

    fn on(listener: TcpListener, answer: impl Fn(SocketAddr) -> String + Send + 'static, tls: Option<TlsAcceptor>) -> Self {
        let server = Self { address: listener.local_addr().expect("an address"), requests: Arc::default() };
        let (address, requests) = (server.address, server.requests.clone());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a client");
                let answer = answer(address);
                // A client that goes away is none of the server's business.
                let _ = match &tls {
                    None => converse(client, &answer, &requests).await,
                    Some(tls) => match tls.accept(client).await {
                        Ok(client) => converse(client, &answer, &requests).await,
                        Err(error) => Err(error),
                    },
                };
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/{SECRET}", self.address)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }
}

async fn converse(
    mut client: impl AsyncReadExt + AsyncWriteExt + Unpin,
    answer: &str,
    requests: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut request = vec![];
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await?);
    }
    requests.lock().expect("no panic").push(String::from_utf8_lossy(&request).into_owned());
    client.write_all(answer.as_bytes()).await?;
    if answer == ENDLESS {
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        loop {
            client.write_all(chunk.as_bytes()).await?;
        }
    }
    // Until the client closes.
    client.flush().await?;
    client.read_u8().await.map(drop)
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nSet-Cookie: crumb=1\r\nContent-Length: 0\r\n\r\n")
}

/// Listens, and knows afterwards whether anybody came: on loopback a connection is there as soon as `connect` returns.
fn trap(at: IpAddr) -> (Listener, u16) {
    let listener = Listener::bind((at, 0)).expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

fn nobody_came(trap: &Listener) -> bool {
    matches!(trap.accept(), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn addresses() {
    let global = "1.1.1.1 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 \
        169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.88.98.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 \
        198.51.99.0 203.0.112.0 223.255.255.255 2606:4700::1111 2001:200::1 2001:4860:4860::8888 2001:db7::1 2001:db9::1 2a00::1 \
        3fff:1000::1 ::ffff:1.1.1.1 64:ff9b::1.1.1.1 2002:101:101::1";
    for address in global.split_whitespace() {
        assert!(is_global(address.parse().expect(address)), "{address}");
    }
    let other = "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255 169.254.0.0 169.254.169.254 \
        172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.170 192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 \
        198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:0.0.0.0 ::ffff:10.0.0.1 \
        ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:1.1.1.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::1.1.1.1 100::1 \
        2001::1 2001:0:101:101::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff::1 2001:db8::1 2002:a00:1::1 2002:7f00:1::1 2002:a9fe:a9fe::1 \
        3fff::1 3fff:fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 febf::1 fec0::1 feff::1 ff02::1 ff0e::1";
    for address in other.split_whitespace() {
        assert!(!is_global(address.parse().expect(address)), "{address}");
    }
}

#[test]
fn an_address_in_a_url_is_seen_however_it_is_written() {
    let strict = Fetcher::new(false).expect("a fetcher");
    let hosts = "127.0.0.1 127.1 127.0.0.1. 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 0 １２７.0.0.1 127。0。0。1 127%2e0.0.1 \
        169.254.169.254 0xa9fea9fe [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:10.0.0.1] [::ffff:a9fe:a9fe] [64:ff9b::7f00:1] [2002:7f00:1::] \
        [fd00:ec2::254]";
    for host in hosts.split_whitespace() {
        let url = Url::parse(&format!("http://{host}:8080/{SECRET}")).expect(host);
        assert!(matches!(strict.check(&url), Err(FetchError::NotGlobal { .. })), "{host}");
        let is_metadata = ["169.254", "a9fe", "fd00:ec2"].iter().any(|part| host.contains(part));
        assert_eq!(private_allowed().check(&url).is_err(), is_metadata, "{host}");
    }
    for host in ["93.184.216.34", "[2606:4700::1111]", "[::ffff:1.1.1.1]", "example.com", "localhost"] {
        assert!(strict.check(&Url::parse(&format!("https://{host}/")).expect(host)).is_ok(), "{host}: for the resolver to say");
    }
}

#[tokio::test]
async fn without_allow_private_nobody_connects_to_loopback() {
    let (trap, port) = trap(ONE);
    let strict = Fetcher::new(false).expect("a fetcher");
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let error = failure(&strict, &format!("http://{host}:{port}/{SECRET}")).await;
        assert!(matches!(error, FetchError::NotGlobal { .. }), "{host}: {error}");
        assert!(!error.may_pass() && (host != "localhost" || !error.to_string().contains("127.")), "{error}");
    }
    assert!(nobody_came(&trap));
}

#[tokio::test]
async fn with_allow_private_an_image_is_fetched() {
    let server = Server::saying(IMAGE).await;
    assert_eq!(private_allowed().fetch(&server.url()).await.expect("an image"), b"image");
    let port = server.address.port();
    assert_eq!(private_allowed().fetch(&format!("http://localhost:{port}/")).await.expect("an image"), b"image", "by name");
    let requests = server.requests();
    let agent = format!("user-agent: recording-operator/{}\r\n", env!("CARGO_PKG_VERSION"));
    assert!(requests[0].starts_with("GET /secret-path?X-Amz-Signature=secret-query HTTP/1.1\r\n"), "{requests:?}");
    assert!(requests[0].contains(&agent) && !requests[0].contains("accept-encoding"), "{requests:?}");
}

#[test]
fn a_proxy_in_the_environment_is_not_used() {
    let (trap, port) = trap(ONE);
    let proxy = format!("http://127.0.0.1:{port}");
    let (_, module) = module_path!().split_once("::").expect("a module in a crate");
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", &format!("{module}::with_allow_private_an_image_is_fetched")])
        .envs(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, &proxy)))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .expect("this test again");
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
    assert!(nobody_came(&trap));
}

#[tokio::test]
async fn of_a_names_addresses_only_the_allowed_are_tried() {
    let server = Server::saying(IMAGE).await;
    let port = server.address.port();
    // The same port on the other address: had it been tried, somebody would have come.
    let forbidden = Listener::bind((TWO, port)).expect("the same port");
    forbidden.set_nonblocking(true).expect("non-blocking");
    let url = format!("http://rebinding.test:{port}/{SECRET}");
    assert_eq!(only_one(&[TWO, ONE, TWO]).fetch(&url).await.expect("an image"), b"image");
    assert!(server.requests()[0].contains(&format!("host: rebinding.test:{port}\r\n")), "{:?}", server.requests());
    let error = failure(&only_one(&[TWO]), &url).await;
    assert!(matches!(error, FetchError::NotGlobal { .. }), "{error}");
    assert!(!error.may_pass() && !error.to_string().contains("127."), "{error}");
    assert!(nobody_came(&forbidden));
}

#[tokio::test]
async fn a_redirect_to_a_forbidden_address_is_refused() {
    let (trap, port) = trap(TWO);
    for to in [&*format!("http://127.0.0.2:{port}"), &format!("http://inside.test:{port}"), &format!("//[::ffff:7f00:2]:{port}")] {
        let server = Server::saying(&redirect(&format!("{to}/{SECRET}"))).await;
        let error = failure(&only_one(&[TWO]), &server.url()).await;
        assert!(matches!(&error, FetchError::NotGlobal { origin } if origin.ends_with(to)), "{to}: {error}");
        assert_eq!(server.requests().len(), 1, "the first hop was allowed");
    }
    assert!(nobody_came(&trap));
}

#[tokio::test]
async fn a_redirect_to_what_is_no_web_page_is_refused() {
    for (to, want) in [
        ("file:///etc/secret", "file://: the scheme must be http or https"),
        ("gopher://example.com:70/secret", "gopher://example.com:70: the scheme must be http or https"),
        ("http://secret:secret@127.0.0.1/", "http://127.0.0.1: the URL must not hold a user name or a password"),
        ("http://secret host/", ": redirected to no usable URL"),
    ] {
        let server = Server::saying(&redirect(to)).await;
        let error = failure(&only_one(&[]), &server.url()).await;
        assert!(error.to_string().ends_with(want) && !error.may_pass(), "{to}: {error}");
    }
    let nowhere = Server::saying("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n").await;
    assert!(matches!(failure(&only_one(&[]), &nowhere.url()).await, FetchError::BadRedirect { .. }));
}

/// Redirects to itself, `times` times.
async fn redirecting(times: u32) -> Server {
    let left = Mutex::new(times);
    Server::new(move |address| {
        let mut left = left.lock().expect("no panic");
        if *left == 0 {
            return IMAGE.into();
        }
        *left -= 1;
        // The host is named or left out in turn.
        redirect(&if left.is_multiple_of(2) { format!("http://{address}/{left}/{SECRET}") } else { format!("/{left}/{SECRET}") })
    })
    .await
}

#[tokio::test]
async fn five_redirects_are_followed_and_six_are_not() {
    let server = redirecting(5).await;
    assert_eq!(private_allowed().fetch(&server.url()).await.expect("an image"), b"image");
    let requests = server.requests();
    assert_eq!(requests.len(), 6);
    for header in ["referer:", "cookie:", "authorization:"] {
        assert!(!requests.iter().any(|request| request.to_lowercase().contains(header)), "{requests:?}");
    }
    let server = redirecting(6).await;
    let error = failure(&private_allowed(), &server.url()).await;
    assert!(matches!(error, FetchError::TooManyRedirects { .. }) && !error.may_pass(), "{error}");
    assert_eq!(server.requests().len(), 6, "the sixth redirect is not followed");
}

#[test]
fn no_redirect_leads_from_https_to_http() {
    let url = |text: &str| Url::parse(text).expect("a URL");
    let secure = url("https://example.com/a");
    let error = redirected(&secure, Some("http://example.org:81/secret?secret")).expect_err("refused");
    assert_eq!(error.to_string(), "failed to fetch an image from http://example.org:81: redirected from https to plain http");
    assert!(!error.may_pass());
    for (from, location, to) in [
        ("https://example.com/a", "b?c", "https://example.com/b?c"),
        ("https://example.com/a", "//example.org/b", "https://example.org/b"),
        ("http://example.com/a", "https://example.org/b", "https://example.org/b"),
        ("http://example.com/a", "//example.org/b", "http://example.org/b"),
    ] {
        assert_eq!(redirected(&url(from), Some(location)).expect("allowed"), url(to));
    }
}

#[tokio::test]
async fn too_large_by_content_length() {
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    // No body follows: only the header can tell.
    let error = failure(&private_allowed(), &Server::saying(&head(IMAGE_BYTES_MAX + 1)).await.url()).await;
    assert!(matches!(error, FetchError::TooLarge { .. }) && !error.may_pass(), "{error}");
    assert!(error.to_string().ends_with("larger than 6 MiB"), "{error}");
    let largest = head(IMAGE_BYTES_MAX) + &"x".repeat(IMAGE_BYTES_MAX);
    let image = private_allowed().fetch(&Server::saying(&largest).await.url()).await.expect("an image");
    assert_eq!(image.len(), IMAGE_BYTES_MAX);
}

#[tokio::test]
async fn too_large_by_a_body_without_end() {
    let error = failure(&private_allowed(), &Server::saying(ENDLESS).await.url()).await;
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_body_stays_as_it_was_sent() {
    let server = Server::saying("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\nnot gzip").await;
    assert_eq!(private_allowed().fetch(&server.url()).await.expect("an image"), b"not gzip");
}

#[tokio::test]
async fn any_status_but_200_is_a_failure() {
    let statuses = [(404, false), (403, false), (401, false), (410, false), (204, false), (206, false), (304, false), (300, false)];
    for (status, may_pass) in statuses.into_iter().chain([(503, true), (500, true), (502, true), (408, true), (429, true)]) {
        let server = Server::saying(&format!("HTTP/1.1 {status} Reason\r\nLocation: /secret\r\nContent-Length: 0\r\n\r\n")).await;
        let error = failure(&private_allowed(), &server.url()).await;
        let want = format!("failed to fetch an image from http://{}: HTTP {status}", server.address);
        assert!(error.to_string().starts_with(&want), "{error}");
        assert_eq!(error.may_pass(), may_pass, "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_slow_server_is_not_waited_for() {
    let hasty = Fetcher::with(|_| true, SHORT, SystemResolver, RootCertStore::empty()).expect("a fetcher");
    // Nobody accepts: the kernel makes the connection, and nothing is ever said.
    let (_silent, port) = trap(ONE);
    let stalled = Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    for url in [format!("http://127.0.0.1:{port}/{SECRET}"), stalled.url()] {
        let error = failure(&hasty, &url).await;
        assert!(matches!(error, FetchError::TimedOut { .. }) && error.may_pass(), "{error}");
        assert!(error.to_string().ends_with("not done within 100ms"), "{error}");
    }
}

#[tokio::test]
async fn what_breaks_off_may_pass() {
    let (listener, port) = trap(ONE);
    drop(listener);
    let error = failure(&private_allowed(), &format!("http://127.0.0.1:{port}/{SECRET}")).await;
    assert!(matches!(error, FetchError::Connection { .. }) && error.may_pass(), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
    let garbled = Server::saying("secret\r\n\r\n").await;
    let error = failure(&private_allowed(), &garbled.url()).await;
    assert!(matches!(error, FetchError::Connection { .. }) && error.may_pass(), "{error}");
}

#[tokio::test]
async fn a_url_that_cannot_be_fetched_says_why() {
    let long = format!("http://127.0.0.1/secret{}", "x".repeat(1 << 17));
    for (url, want) in [
        ("http://secret:secret@127.0.0.1:81/", "from http://127.0.0.1:81: the URL must not hold a user name or a password"),
        ("https://secret@example.com/secret", "from https://example.com: the URL must not hold a user name or a password"),
        ("https://:secret@example.com/secret", "from https://example.com: the URL must not hold a user name or a password"),
        ("ftp://example.com/secret", "from ftp://example.com: the scheme must be http or https"),
        ("file:///secret", "from file://: the scheme must be http or https"),
        ("data:image/png;base64,secret", "from data://: the scheme must be http or https"),
        ("", "failed to read the URL of an image: relative URL without a base"),
        ("secret.png", "failed to read the URL of an image: relative URL without a base"),
        ("http://", "failed to read the URL of an image: empty host"),
        ("http://secret host/", "failed to read the URL of an image: invalid international domain name"),
        (&long, "failed to read the URL of an image: too long, or not fit for HTTP"),
    ] {
        let error = failure(&private_allowed(), url).await;
        assert!(error.to_string().ends_with(want), "{error}");
        assert!(!error.may_pass(), "{error}");
    }
}

#[tokio::test]
async fn https_is_checked_against_the_trusted_certificates() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key))
        .expect("a TLS server");
    let listener = TcpListener::bind((ONE, 0)).await.expect("a port");
    let server = Server::on(listener, |_| IMAGE.into(), Some(TlsAcceptor::from(Arc::new(config))));
    let url = server.url().replace("http:", "https:");

    let error = failure(&private_allowed(), &url).await;
    assert!(error.to_string().ends_with("invalid peer certificate: UnknownIssuer"), "{error}");

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let trusting = Fetcher::with(|_| true, LONG, SystemResolver, roots).expect("a fetcher");
    assert_eq!(trusting.fetch(&url).await.expect("an image"), b"image");
}

#[test]
fn link_local_addresses_are_refused_whatever_is_allowed() {
    let link_local = "169.254.169.254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe:: fe80::1 168.63.129.16 fd00:ec2::254";
    let others = "10.0.0.1 127.0.0.1 fd00::1 ::1 1.1.1.1";
    let table = link_local.split(' ').map(|address| (address, true)).chain(others.split(' ').map(|address| (address, false)));
    for (address, refused) in table {
        assert_eq!(is_link_local(address.parse().expect("an address")), refused, "{address}");
    }
}
