//! An image that a tenant names by URL. Whoever may create a resource is not trusted with the cluster's network (server-side request
//! forgery, CWE-918): unless the operator's owner allows more, every hop goes to a global address or nowhere.

use std::error::Error;
use std::iter::successors;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::LOCATION;
use reqwest::{Client, Response, StatusCode, Url};
use rustls::RootCertStore;

/// A new connection that takes longer is not coming: name, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// From the first name to the last byte, redirects included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// A larger image is refused.
const IMAGE_BYTES_MAX: usize = 6 << 20;
/// One more is refused.
const REDIRECTS_MAX: usize = 5;
const USER_AGENT: &str = concat!("recording-operator/", env!("CARGO_PKG_VERSION"));

/// An origin is scheme, host and port. Paths and queries hold secrets (presigned URLs): no error holds them, nor what caused it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("failed to set up the fetching of images: {0}")]
    Setup(String),
    #[error("failed to read the URL of an image: {0}")]
    BadUrl(String),
    #[error("failed to fetch an image from {origin}: the scheme must be http or https")]
    Scheme { origin: String },
    #[error("failed to fetch an image from {origin}: the URL must not hold a user name or a password")]
    Credentials { origin: String },
    #[error("failed to fetch an image from {origin}: the host has no public address, and private ones are not allowed")]
    NotGlobal { origin: String },
    #[error("failed to fetch an image from {origin}: redirected from https to plain http")]
    Downgrade { origin: String },
    #[error("failed to fetch an image from {origin}: redirected to no usable URL")]
    BadRedirect { origin: String },
    #[error("failed to fetch an image from {origin}: redirected more than {REDIRECTS_MAX} times")]
    TooManyRedirects { origin: String },
    #[error("failed to fetch an image from {origin}: HTTP {status}")]
    Status { origin: String, status: StatusCode },
    #[error("failed to fetch an image from {origin}: it is larger than {} MiB", IMAGE_BYTES_MAX >> 20)]
    TooLarge { origin: String },
    #[error("failed to fetch an image from {origin}: not done within {limit:?}")]
    TimedOut { origin: String, limit: Duration },
    #[error("failed to fetch an image from {origin}: {cause}")]
    Connection { origin: String, cause: String },
}

impl FetchError {
    /// Whether the same URL may do later on, with nobody changing anything.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Connection { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error() || matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            }
            _ => false,
        }
    }
}

/// Whether an address may be connected to.
type Allowed = fn(IpAddr) -> bool;

/// Clones share one client.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    client: Client,
    allowed: Allowed,
    timeout: Duration,
}

impl Fetcher {
    /// `allow_private`: addresses that are not global are connected to as well, but for link-local ones: clouds hand out credentials there.
    ///
    /// # Errors
    /// [`FetchError::Setup`] when the system has no trusted certificates, or TLS cannot be set up.
    pub(crate) fn new(allow_private: bool) -> Result<Self, FetchError> {
        let allowed: Allowed = if allow_private { |address| !is_link_local(address) } else { is_global };
        Self::with(allowed, FETCH_TIMEOUT, SystemResolver, native_roots()?)
    }

    fn with(allowed: Allowed, timeout: Duration, names: impl Resolve + 'static, roots: RootCertStore) -> Result<Self, FetchError> {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| FetchError::Setup(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(GuardedResolver { names, allowed })
            // A proxy would connect to addresses nobody has looked at.
            .no_proxy()
            // Followed by `follow`, which looks at each; so no Referer either.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            // An image is fetched once.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| FetchError::Setup(root_cause(&error)))?;
        Ok(Self { client, allowed, timeout })
    }

    /// The bytes as they were sent: whether they are an image is for the decoder to say.
    ///
    /// # Errors
    /// When there are none for any reason; [`FetchError::may_pass`] says whether to try again.
    pub(crate) async fn fetch(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let url = Url::parse(url).map_err(|error| FetchError::BadUrl(error.to_string()))?;
        let late = FetchError::TimedOut { origin: origin(&url), limit: self.timeout };
        tokio::time::timeout(self.timeout, self.follow(url)).await.unwrap_or(Err(late))
    }

    async fn follow(&self, mut url: Url) -> Result<Vec<u8>, FetchError> {
        for _ in 0..=REDIRECTS_MAX {
            self.check(&url)?;
            let response = self.client.get(url.clone()).send().await.map_err(|error| failed(&url, error))?;
            match response.status() {
                StatusCode::OK => return body(&url, response).await,
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let location = response.headers().get(LOCATION).and_then(|location| std::str::from_utf8(location.as_bytes()).ok());
                    url = redirected(&url, location)?;
                }
                status => return Err(FetchError::Status { origin: origin(&url), status }),
            }
        }
        Err(FetchError::TooManyRedirects { origin: origin(&url) })
    }

    /// What can be said of a URL before its name is resolved. An address in the URL never comes to the resolver, so it is looked at here;
    /// the parser has turned every way of writing one (octal, hexadecimal, one number) into the usual one.
    fn check(&self, url: &Url) -> Result<(), FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::Scheme { origin: origin(url) });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Credentials { origin: origin(url) });
        }
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
        match literal {
            Some(address) if !(self.allowed)(address) => Err(FetchError::NotGlobal { origin: origin(url) }),
            _ => Ok(()),
        }
    }
}

/// Where a redirect leads.
fn redirected(from: &Url, location: Option<&str>) -> Result<Url, FetchError> {
    let to = location.and_then(|location| from.join(location).ok()).ok_or_else(|| FetchError::BadRedirect { origin: origin(from) })?;
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(FetchError::Downgrade { origin: origin(&to) });
    }
    Ok(to)
}

async fn body(url: &Url, mut response: Response) -> Result<Vec<u8>, FetchError> {
    let too_large = || FetchError::TooLarge { origin: origin(url) };
    if response.content_length().is_some_and(|length| length > IMAGE_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let mut image = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(url, error))? {
        if chunk.len() > IMAGE_BYTES_MAX - image.len() {
            return Err(too_large());
        }
        image.extend_from_slice(&chunk);
    }
    Ok(image)
}

/// What of a URL may be shown, and no more than a name may have: a redirect may lead to anything.
fn origin(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", cut(url.scheme()), cut(url.host_str().unwrap_or_default()))
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(253)]
}

fn failed(url: &Url, error: reqwest::Error) -> FetchError {
    // What reqwest says of an error ends with the whole URL.
    let error = error.without_url();
    let origin = origin(url);
    if causes(&error).any(|cause| cause.is::<NoAddressAllowed>()) {
        FetchError::NotGlobal { origin }
    } else if error.is_builder() {
        FetchError::BadUrl("too long, or not fit for HTTP".into())
    } else {
        FetchError::Connection { origin, cause: root_cause(&error) }
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

/// The end of the chain, where "connection refused" stands.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn native_roots() -> Result<RootCertStore, FetchError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(FetchError::Setup(format!("the system has no trusted certificates{why}")));
    }
    Ok(roots)
}

/// All addresses of the name were refused; which they are is not for tenants to know.
#[derive(Debug, thiserror::Error)]
#[error("no address of the host is allowed")]
struct NoAddressAllowed;

/// Passes on only what is allowed. The client connects to what it gets from here, so there is no second answer for a name to change.
#[derive(Debug)]
struct GuardedResolver<R> {
    names: R,
    allowed: Allowed,
}

impl<R: Resolve> Resolve for GuardedResolver<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, allowed) = (self.names.resolve(name), self.allowed);
        Box::pin(async move {
            let left: Vec<_> = found.await?.filter(|address| allowed(address.ip())).collect();
            if left.is_empty() { Err(NoAddressAllowed.into()) } else { Ok(Box::new(left.into_iter()) as Addrs) }
        })
    }
}

#[derive(Debug)]
struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // Port 0: the client sets the URL's.
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the internet at large, by the IANA special-purpose address registries (RFC 6890). Stricter where they
/// allow an odd one out of a range: no images live there.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => v4_is_global(address),
        IpAddr::V6(address) => v6_is_global(address),
    }
}

/// And where clouds answer besides: Azure's wire server, AWS by IPv6.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || address == AZURE,
        IpAddr::V6(address) => match inner(address) {
            Some(inner) => is_link_local(IpAddr::V4(inner)),
            None => address.is_unicast_link_local() || address == AWS,
        },
    }
}

const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
const AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// A v4 address inside: mapped, NAT64 (RFC 6052), 6to4 (RFC 3056).
const fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

fn v4_is_global(address: Ipv4Addr) -> bool {
    match address.octets() {
        // This network, private, loopback, multicast, reserved with broadcast.
        [0 | 10 | 127 | 224..=255, ..] => false,
        // Carrier-grade NAT, link-local with the clouds' metadata, private.
        [100, 64..=127, ..] | [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] => false,
        // IETF protocol assignments, 6to4 relays, benchmarking.
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => false,
        // Azure's wire server.
        [168, 63, 129, 16] => false,
        // Documentation.
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => false,
        _ => true,
    }
}

fn v6_is_global(address: Ipv6Addr) -> bool {
    if let Some(inner) = inner(address) {
        return v4_is_global(inner);
    }
    match address.segments() {
        // IETF protocol assignments (Teredo, benchmarking, ORCHID), documentation twice.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        // Global unicast, 2000::/3. Beyond it lie ::, ::1, unique local, link-local, site-local, multicast and what is reserved.
        [first, ..] => first >> 13 == 1,
    }
}

#[cfg(test)]
mod tests;
