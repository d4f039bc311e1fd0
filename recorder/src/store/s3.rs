//! Amazon S3 and what speaks like it. Signing, checksums and connections are the SDK's; when to try again is the session's.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ServerSideEncryption, StorageClass};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::{
    Condition, Described, Document, Fetched, LIST_PAGE, SEGMENT_CACHE_CONTROL, SEGMENT_CONTENT_TYPE, Segment, Store, StoreFailure,
};
use super::{hex, join_key};
use crate::credentials::MountedCredentials;

/// A new connection that takes longer is not coming.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a document, which is small.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(100);
/// First byte of an answer; the SDK counts from the beginning of the request, its body included.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// A segment may take [`READ_TIMEOUT`] and as long as its bytes need at this rate: four at once over 1 Mbit/s. A line that is slower than
/// what is recorded must get something through, or the backlog would never shrink again.
const SLOWEST_UPLOAD_BYTES_PER_SECOND: u64 = 32_000;
/// One quick second try inside the SDK (a connection the server had closed); the session's backoff rules beyond it.
const SDK_ATTEMPTS: u32 = 2;
/// Object metadata: the segment's SHA-256 and its ledger entry (contracts.md).
const META_SHA256: &str = "sha256";
const META_LEDGER: &str = "ledger";

#[derive(Clone, Debug, Default)]
pub(crate) struct S3Options {
    pub(crate) bucket: String,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) force_path_style: bool,
    pub(crate) prefix: String,
    /// A folder with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and perhaps AWS_SESSION_TOKEN; None: the SDK's default chain.
    pub(crate) credentials: Option<PathBuf>,
    /// `AES256` or `aws:kms`, and the key's id.
    pub(crate) encryption: Option<(ServerSideEncryption, Option<String>)>,
    pub(crate) storage_class: Option<String>,
    pub(crate) tags: Vec<(String, String)>,
    /// Cache-Control of segments; None: [`SEGMENT_CACHE_CONTROL`].
    pub(crate) cache_control: Option<String>,
    /// PEM certificates trusted besides the system's.
    pub(crate) ca_bundle: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(crate) struct S3Store {
    client: Client,
    options: S3Options,
}

impl S3Store {
    /// What was being done, for messages: whoever reads "NoSuchBucket" wants to know which.
    fn doing(&self, what: &str) -> String {
        format!("{what} in bucket {}", self.options.bucket)
    }

    /// # Errors
    /// [`StoreFailure::Invalid`] when the CA bundle holds no certificate.
    pub(crate) async fn open(options: S3Options) -> Result<Self, StoreFailure> {
        let region = Region::new(options.region.clone().unwrap_or_else(|| "us-east-1".to_owned()));
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(region)
            .http_client(https_client(options.ca_bundle.as_deref())?)
            .retry_config(RetryConfig::standard().with_max_attempts(SDK_ATTEMPTS))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .read_timeout(READ_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .build(),
            )
            // Only what S3 itself demands: many compatible servers refuse trailing checksums. A segment carries its SHA-256 anyway.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(folder) = &options.credentials {
            loader = loader.credentials_provider(MountedCredentials::new(folder.clone()));
        }
        if let Some(endpoint) = &options.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let config = aws_sdk_s3::config::Builder::from(&loader.load().await).force_path_style(options.force_path_style).build();
        Ok(Self { client: Client::from_conf(config), options })
    }

    fn put(&self, key: &str, content_type: &str, cache_control: &str) -> PutObjectFluentBuilder {
        let options = &self.options;
        let mut put = self
            .client
            .put_object()
            .bucket(&options.bucket)
            .key(join_key(&options.prefix, key))
            .content_type(content_type)
            .cache_control(cache_control);
        if let Some((encryption, key_id)) = &options.encryption {
            put = put.server_side_encryption(encryption.clone()).set_ssekms_key_id(key_id.clone());
        }
        if let Some(class) = &options.storage_class {
            put = put.storage_class(StorageClass::from(class.as_str()));
        }
        if !options.tags.is_empty() {
            put = put.tagging(query_encoded(&options.tags));
        }
        put
    }

    /// How long the upload of a segment may take. No read time-out: the SDK keeps a pool of connections for each that differs.
    fn patience(bytes: u64) -> aws_sdk_s3::config::Builder {
        let limit = READ_TIMEOUT + Duration::from_secs(bytes / SLOWEST_UPLOAD_BYTES_PER_SECOND);
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).disable_read_timeout().operation_attempt_timeout(limit);
        aws_sdk_s3::config::Builder::new().timeout_config(timeouts.build())
    }

    /// What is told of an object without reading it; None: there is none.
    async fn head(&self, key: &str) -> Result<Option<HeadObjectOutput>, StoreFailure> {
        let key = join_key(&self.options.prefix, key);
        match self.client.head_object().bucket(&self.options.bucket).key(key).send().await {
            Ok(head) => Ok(Some(head)),
            Err(error) if error.as_service_error().is_some_and(|why| why.is_not_found()) => Ok(None),
            Err(error) => Err(classify(&self.doing("look at an object"), &error)),
        }
    }

    /// After a 412: our own earlier try has arrived when the object there is the one we meant. None: there is no object.
    async fn stored_already(&self, key: &str, sha256: &str) -> Result<Option<String>, StoreFailure> {
        let Some(head) = self.head(key).await? else { return Ok(None) };
        let same = head.metadata().and_then(|meta| meta.get(META_SHA256)).is_some_and(|there| there == sha256);
        match (same, head.e_tag()) {
            (true, Some(etag)) => Ok(Some(etag.to_owned())),
            _ => Err(StoreFailure::Conflict),
        }
    }

    /// What a PUT that failed means in the end. A server may answer 412 without reading the body, and close: then the answer is lost with the
    /// connection (RFC 9112 section 9.6), every time; so what broke off is looked for as well.
    async fn despite(
        &self,
        key: &str,
        sha256: &str,
        what: &str,
        error: &SdkError<PutObjectError, HttpResponse>,
    ) -> Result<String, StoreFailure> {
        let failure = classify(&self.doing(what), error);
        let broke_off = matches!(error, SdkError::DispatchFailure(failure) if !failure.is_timeout());
        if failure != StoreFailure::Conflict && !broke_off {
            return Err(failure);
        }
        match self.stored_already(key, sha256).await {
            Ok(Some(etag)) => Ok(etag),
            Err(found) if failure == StoreFailure::Conflict || found == StoreFailure::Conflict => Err(found),
            // Somebody has removed what refused it: no mistake of anybody.
            Ok(None) if failure == StoreFailure::Conflict => {
                Err(StoreFailure::Retryable(format!("failed to {}: the object that was there is gone", self.doing(what))))
            }
            _ => Err(failure),
        }
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put_segment(&self, segment: Segment<'_>) -> Result<String, StoreFailure> {
        let unreadable = |error: &dyn std::fmt::Display| StoreFailure::Retryable(format!("failed to read the spool: {error}"));
        let bytes = tokio::fs::metadata(segment.path).await.map_err(|error| unreadable(&error))?.len();
        let body = ByteStream::from_path(segment.path).await.map_err(|error| unreadable(&error))?;
        let cache_control = self.options.cache_control.as_deref().unwrap_or(SEGMENT_CACHE_CONTROL);
        let put = self
            .put(segment.key, SEGMENT_CONTENT_TYPE, cache_control)
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(base64_of_hex(segment.sha256))
            .metadata(META_SHA256, segment.sha256)
            .metadata(META_LEDGER, segment.ledger)
            .body(body);
        match put.customize().config_override(Self::patience(bytes)).send().await {
            Ok(stored) => Ok(stored.e_tag().unwrap_or_default().to_owned()),
            Err(error) => self.despite(segment.key, segment.sha256, "store a segment", &error).await,
        }
    }

    async fn put_document(&self, document: &Document, condition: &Condition) -> Result<String, StoreFailure> {
        let sha256 = Sha256::digest(&document.body);
        let put = self
            .put(&document.key, document.kind.content_type(), document.kind.cache_control())
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(STANDARD.encode(sha256))
            .metadata(META_SHA256, hex(&sha256))
            .body(ByteStream::from(document.body.clone()));
        let put = match condition {
            Condition::Absent => put.if_none_match("*"),
            Condition::Matches(etag) => put.if_match(etag),
        };
        match put.send().await {
            Ok(stored) => Ok(stored.e_tag().unwrap_or_default().to_owned()),
            Err(error) => self.despite(&document.key, &hex(&sha256), "store a document", &error).await,
        }
    }

    async fn fetch(&self, key: &str) -> Result<Option<Fetched>, StoreFailure> {
        let got = self.client.get_object().bucket(&self.options.bucket).key(join_key(&self.options.prefix, key)).send().await;
        let got = match got {
            Ok(got) => got,
            Err(error) if error.as_service_error().is_some_and(|why| why.is_no_such_key()) => return Ok(None),
            Err(error) => return Err(classify(&self.doing("read an object"), &error)),
        };
        let etag = got.e_tag().unwrap_or_default().to_owned();
        match got.body.collect().await {
            Ok(body) => Ok(Some(Fetched { body: body.into_bytes(), etag })),
            Err(error) => Err(StoreFailure::Retryable(format!("failed to read an object: {error}"))),
        }
    }

    async fn describe(&self, key: &str) -> Result<Option<Described>, StoreFailure> {
        let Some(head) = self.head(key).await? else { return Ok(None) };
        Ok(Some(Described {
            bytes: head.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0),
            etag: head.e_tag().unwrap_or_default().to_owned(),
            ledger: head.metadata().and_then(|meta| meta.get(META_LEDGER)).cloned(),
        }))
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<String>, StoreFailure> {
        let below = join_key(&self.options.prefix, "");
        let mut token = None;
        loop {
            let list = self.client.list_objects_v2().bucket(&self.options.bucket).max_keys(LIST_PAGE as i32);
            let list = list.prefix(format!("{below}{prefix}")).set_continuation_token(token);
            let list = list.set_start_after((!after.is_empty()).then(|| format!("{below}{after}")));
            let page = list.send().await.map_err(|error| classify(&self.doing("list objects"), &error))?;
            let keys = page.contents().iter().filter_map(|object| object.key()?.strip_prefix(&below));
            // Some servers do not know StartAfter, and a page may be empty although there are more.
            let names: Vec<String> = keys.filter(|name| *name > after).map(str::to_owned).collect();
            token = page.next_continuation_token().filter(|_| page.is_truncated() == Some(true)).map(str::to_owned);
            if !names.is_empty() || token.is_none() {
                return Ok(names);
            }
        }
    }

    async fn remove(&self, key: &str) -> Result<(), StoreFailure> {
        let removed = self.client.delete_object().bucket(&self.options.bucket).key(join_key(&self.options.prefix, key)).send().await;
        match removed {
            // Some servers say so of what is not there; S3 does not.
            Err(error) if error.code() == Some("NoSuchKey") => Ok(()),
            other => other.map(drop).map_err(|error| classify(&self.doing("remove an object"), &error)),
        }
    }
}

fn https_client(ca_bundle: Option<&[u8]>) -> Result<aws_sdk_s3::config::SharedHttpClient, StoreFailure> {
    let mut roots = TrustStore::default();
    if let Some(pem) = ca_bundle {
        if !pem.windows(CERTIFICATE.len()).any(|window| window == CERTIFICATE) {
            return Err(StoreFailure::Invalid("the storage's caBundle holds no PEM certificate".into()));
        }
        roots = roots.with_pem_certificate(pem);
    }
    let context = TlsContext::builder()
        .with_trust_store(roots)
        .build()
        .map_err(|error| StoreFailure::Invalid(format!("failed to set up TLS: {error}")))?;
    Ok(aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// What an error of the SDK means to us. Messages name the S3 code, never a header or a credential.
fn classify<E: ProvideErrorMetadata + std::error::Error + 'static>(what: &str, error: &SdkError<E, HttpResponse>) -> StoreFailure {
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().unwrap_or_default();
    let reason = error.message().unwrap_or_default();
    let text = match (status, error) {
        (Some(status), _) => format!("failed to {what}: HTTP {status} {code} {reason}"),
        (None, SdkError::TimeoutError(_)) => format!("failed to {what}: time-out"),
        (None, SdkError::DispatchFailure(failure)) => {
            format!("failed to {what}: {}", failure.as_connector_error().map_or_else(|| "no connection".to_owned(), |error| causes(error)))
        }
        (None, error) => format!("failed to {what}: {}", causes(error)),
    };
    match (status, code) {
        (Some(412), _) => StoreFailure::Conflict,
        (_, "NoSuchBucket" | "InvalidBucketName" | "PermanentRedirect" | "AuthorizationHeaderMalformed") => StoreFailure::Invalid(text),
        (_, "RequestTimeTooSkewed" | "RequestTimeout" | "SlowDown") | (Some(409 | 408 | 429 | 500..), _) => StoreFailure::Retryable(text),
        (Some(401 | 403), _) => StoreFailure::Denied(text),
        (Some(_), _) => StoreFailure::Invalid(text),
        // Without credentials the SDK never gets as far as sending.
        (None, _) if lacks_credentials(error) => StoreFailure::Denied(text),
        (None, _) => StoreFailure::Retryable(text),
    }
}

fn lacks_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|cause| cause.is::<CredentialsError>())
}

/// An error and what it was caused by, in one line: "connection refused" stands at the end of the chain.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Hex as S3 wants a checksum; our own hashes are always hex.
fn base64_of_hex(hex: &str) -> String {
    let bytes: Vec<u8> = (0..hex.len() / 2).filter_map(|at| u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok()).collect();
    STANDARD.encode(bytes)
}

/// `a=b&c=d`, RFC 3986 escapes: the form of the x-amz-tagging header.
fn query_encoded(tags: &[(String, String)]) -> String {
    let escape = |text: &str| {
        text.bytes().fold(String::new(), |mut out, byte| {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
    };
    tags.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const BYTES: usize = 1 << 20;
    /// Longer than [`READ_TIMEOUT`].
    const SLOW: Duration = Duration::from_secs(22);

    /// Takes one request and answers it late.
    async fn slow_store(listener: tokio::net::TcpListener) -> std::io::Result<()> {
        let (mut client, _) = listener.accept().await?;
        let mut block = vec![0; 64 << 10];
        // Nothing more comes than the request: it waits for its answer.
        let _ = tokio::time::timeout(SLOW, async { while client.read(&mut block).await.is_ok_and(|length| length > 0) {} }).await;
        client.write_all(b"HTTP/1.1 200 OK\r\nETag: \"slow\"\r\nContent-Length: 0\r\n\r\n").await
    }

    /// Refuses a PUT from its headers alone and closes: unread bytes make that a reset, with which an answer would be lost. `head` answers a HEAD.
    async fn hasty_store(listener: tokio::net::TcpListener, head: String) -> std::io::Result<()> {
        loop {
            let (mut client, _) = listener.accept().await?;
            let mut request = vec![];
            while !request.ends_with(b"\r\n\r\n") {
                request.push(client.read_u8().await?);
            }
            if request.starts_with(b"HEAD ") {
                client.write_all(head.as_bytes()).await?;
            }
        }
    }

    /// A store, and one segment put into it, of which `serve` takes the requests.
    async fn put_one<F>(serve: impl FnOnce(tokio::net::TcpListener) -> F) -> Result<String, StoreFailure>
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("a.ts", &*"x".repeat(BYTES))] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let options = S3Options {
            bucket: "b".into(),
            endpoint: Some(format!("http://{}", listener.local_addr().expect("an address"))),
            force_path_style: true,
            credentials: Some(folder.path().to_owned()),
            ..S3Options::default()
        };
        let store = S3Store::open(options).await.expect("a store");
        let server = tokio::spawn(serve(listener));
        let (path, sha256) = (folder.path().join("a.ts"), "00".repeat(32));
        let stored = store.put_segment(Segment { key: "a.ts", path: &path, sha256: &sha256, ledger: "{}" }).await;
        server.abort();
        stored
    }

    #[tokio::test]
    async fn a_segment_over_a_slow_line_gets_through() {
        assert_eq!(put_one(slow_store).await, Ok("\"slow\"".to_owned()), "by one connection");
    }

    #[tokio::test]
    async fn a_refusal_that_is_lost_with_the_connection_is_found_out() {
        let there =
            |sha256: &str| format!("HTTP/1.1 200 OK\r\nETag: \"there\"\r\nx-amz-meta-sha256: {sha256}\r\nContent-Length: 0\r\n\r\n");
        let (ours, other) = (there(&"00".repeat(32)), there(&"11".repeat(32)));
        assert_eq!(put_one(|listener| hasty_store(listener, ours)).await, Ok("\"there\"".to_owned()));
        assert_eq!(put_one(|listener| hasty_store(listener, other)).await, Err(StoreFailure::Conflict));
        let absent = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned();
        let failure = put_one(|listener| hasty_store(listener, absent)).await;
        assert!(matches!(&failure, Err(StoreFailure::Retryable(why)) if why.contains("store a segment")), "{failure:?}");
    }
}
