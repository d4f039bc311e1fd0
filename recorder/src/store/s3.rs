//! Amazon S3 and what speaks like it. Signing, checksums and connections are the SDK's; when to try again is the session's.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ServerSideEncryption, StorageClass};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::{Condition, Document, Fetched, SEGMENT_CACHE_CONTROL, SEGMENT_CONTENT_TYPE, Segment, Store, StoreFailure};
use super::{hex, join_key};
use crate::credentials::MountedCredentials;

/// A new connection that takes longer is not coming.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One PUT of the largest segment (50 MB) over 4 Mbit/s.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(100);
/// First byte of an answer after the request is out.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
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

    /// After a 412: our own earlier try has arrived when the object there is the one we meant.
    async fn stored_already(&self, key: &str, sha256: &str) -> Result<String, StoreFailure> {
        let head = self
            .client
            .head_object()
            .bucket(&self.options.bucket)
            .key(join_key(&self.options.prefix, key))
            .send()
            .await
            .map_err(|error| classify(&self.doing("look at"), &error))?;
        let same = head.metadata().and_then(|meta| meta.get(META_SHA256)).is_some_and(|there| there == sha256);
        match (same, head.e_tag()) {
            (true, Some(etag)) => Ok(etag.to_owned()),
            _ => Err(StoreFailure::Conflict),
        }
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put_segment(&self, segment: Segment<'_>) -> Result<String, StoreFailure> {
        let body = ByteStream::from_path(segment.path)
            .await
            .map_err(|error| StoreFailure::Retryable(format!("failed to read the spool: {error}")))?;
        let put = self
            .put(segment.key, SEGMENT_CONTENT_TYPE, SEGMENT_CACHE_CONTROL)
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(base64_of_hex(segment.sha256))
            .metadata(META_SHA256, segment.sha256)
            .metadata(META_LEDGER, segment.ledger)
            .body(body);
        match put.send().await {
            Ok(stored) => Ok(stored.e_tag().unwrap_or_default().to_owned()),
            Err(error) => match classify(&self.doing("store a segment"), &error) {
                StoreFailure::Conflict => self.stored_already(segment.key, segment.sha256).await,
                other => Err(other),
            },
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
            Err(error) => match classify(&self.doing("store a document"), &error) {
                StoreFailure::Conflict => self.stored_already(&document.key, &hex(&sha256)).await,
                other => Err(other),
            },
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
fn classify<E: ProvideErrorMetadata + std::error::Error + 'static>(
    what: &str,
    error: &SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
) -> StoreFailure {
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
