//! S3 credentials from a mounted Secret, read again at every use: a rotated Secret is in force within a second.

use std::path::PathBuf;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};

/// A folder with one file per key of the Secret.
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
