//! From a job to a connector.

use std::path::Path;
use std::time::Duration;

use recording_crds::job::{Job, Room, roles};
use recording_crds::recording::Media;

use super::Connector;
use super::livekit::{self, LiveKit};
use super::test_pattern::TestPattern;
use super::token::{Credentials, Grant};

/// What a channel needs and no job carries.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    /// A ready-made token.
    pub(crate) token: Option<String>,
    /// LIVEKIT_API_KEY and LIVEKIT_API_SECRET.
    pub(crate) api_key: Option<(String, String)>,
    /// PEM, in addition to the system's certificate authorities.
    pub(crate) ca_bundle: Option<Vec<u8>>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets(token {}, API key {})", self.token.is_some(), self.api_key.is_some())
    }
}

/// Why a job gives no connector. The user must act; nothing here gets better by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error("failed to read {role}/{file}: {reason}")]
    Secret { role: &'static str, file: &'static str, reason: String },
    #[error("channel.livekit.url: {0}")]
    Url(#[from] livekit::AddressError),
    #[error("channel.caBundle: {0}")]
    Tls(String),
    #[error("channel.livekit needs a token: spec.token.secretKeyRef or spec.token.apiKeySecretRef")]
    NoToken,
    #[error("{field} is out of range")]
    Range { field: &'static str },
}

impl Secrets {
    /// Reads the files of the channel's roles.
    ///
    /// # Errors
    /// [`BuildError::Secret`] for a file that a mounted role lacks.
    pub(crate) fn read(job: &Job) -> Result<Self, BuildError> {
        let mut secrets = Self::default();
        if let Some(folder) = job.files.get(roles::TOKEN) {
            secrets.token = Some(text(roles::TOKEN, folder, roles::TOKEN_KEY)?);
        }
        if let Some(folder) = job.files.get(roles::API_KEY) {
            let key = text(roles::API_KEY, folder, roles::LIVEKIT_API_KEY)?;
            secrets.api_key = Some((key, text(roles::API_KEY, folder, roles::LIVEKIT_API_SECRET)?));
        }
        if let Some(folder) = job.files.get(roles::CHANNEL_CA) {
            secrets.ca_bundle = Some(bytes(roles::CHANNEL_CA, folder, roles::CA_FILE)?);
        }
        Ok(secrets)
    }
}

fn bytes(role: &'static str, folder: &Path, file: &'static str) -> Result<Vec<u8>, BuildError> {
    std::fs::read(folder.join(file)).map_err(|error| BuildError::Secret { role, file, reason: error.to_string() })
}

/// Files made by editors and `echo` end in a line feed that is no part of the secret.
fn text(role: &'static str, folder: &Path, file: &'static str) -> Result<String, BuildError> {
    let bytes = bytes(role, folder, file)?;
    let text = String::from_utf8(bytes).map_err(|_| BuildError::Secret { role, file, reason: "not UTF-8".into() })?;
    Ok(text.trim().to_owned())
}

/// The connector of a job's room.
///
/// # Errors
/// When the job asks for what this recorder cannot do.
pub(crate) fn build(job: &Job, secrets: Secrets) -> Result<Box<dyn Connector>, BuildError> {
    match &job.spec.channel.room {
        Room::TestPattern(pattern) => Ok(Box::new(test_pattern(pattern, job.spec.media)?)),
        Room::Livekit { url } => Ok(Box::new(livekit(job, url, secrets)?)),
    }
}

fn livekit(job: &Job, url: &str, secrets: Secrets) -> Result<LiveKit, BuildError> {
    let credentials = match (secrets.token, secrets.api_key) {
        (Some(token), _) => Credentials::ready(token),
        (None, Some((api_key, api_secret))) => {
            let (room, identity) = (job.spec.channel.name.clone(), job.spec.identity.clone());
            Credentials::minted(Grant { api_key, api_secret, room, identity })
        }
        (None, None) => return Err(BuildError::NoToken),
    };
    let tls = livekit::tls(secrets.ca_bundle.as_deref()).map_err(BuildError::Tls)?;
    Ok(LiveKit::new(livekit::Address::parse(url)?, tls, credentials, job.spec.video_stream))
}

fn test_pattern(pattern: &recording_crds::recording::TestPattern, media: Media) -> Result<TestPattern, BuildError> {
    let side = |value: i32, field| u32::try_from(value).ok().filter(|&v| v > 0).ok_or(BuildError::Range { field });
    Ok(TestPattern {
        participants: u8::try_from(pattern.participants).map_err(|_| BuildError::Range { field: "testPattern.participants" })?,
        width: side(pattern.width, "testPattern.width")?,
        height: side(pattern.height, "testPattern.height")?,
        frames_per_second: side(pattern.frames_per_second, "testPattern.framesPerSecond")?,
        duration: Duration::from_secs(side(pattern.duration_seconds, "testPattern.durationSeconds")?.into()),
        video: media != Media::Audio,
        audio: media != Media::Video,
    })
}
