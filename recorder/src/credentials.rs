//! Secrets that change while a recorder runs: mounted as files, read again.

use std::path::PathBuf;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};

/// S3 credentials: a folder with one file per key of the Secret; a rotated Secret is in force within half a minute.
#[derive(Clone, Debug)]
pub(crate) struct MountedCredentials {
    folder: PathBuf,
}

impl MountedCredentials {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn read(&self) -> Result<Credentials, CredentialsError> {
        let key = |name: &str| match std::fs::read_to_string(self.folder.join(name)) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CredentialsError::provider_error(error)),
        };
        let wanted =
            |name: &'static str| key(name)?.ok_or_else(|| CredentialsError::not_loaded(format!("the storage Secret has no key {name}")));
        Ok(Credentials::new(
            wanted("AWS_ACCESS_KEY_ID")?,
            wanted("AWS_SECRET_ACCESS_KEY")?,
            key("AWS_SESSION_TOKEN")?,
            // Expires soon, so that the SDK's cache asks again.
            Some(std::time::SystemTime::now() + VALID_FOR),
            "MountedSecret",
        ))
    }
}

/// The SDK asks again 10 s before the end of this.
const VALID_FOR: std::time::Duration = std::time::Duration::from_secs(30);

impl ProvideCredentials for MountedCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.read())
    }
}

/// The ready-made token of a channel.
pub(crate) struct TokenFile {
    path: PathBuf,
    text: String,
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenFile")
    }
}

impl TokenFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Self { path, text }
    }

    /// The token, if it is another one than last time; a file that is away for a moment is no change.
    pub(crate) fn changed(&mut self) -> Option<String> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        if text == self.text {
            return None;
        }
        self.text = text;
        Some(self.text.trim().to_owned())
    }
}
