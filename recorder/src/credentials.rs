//! Secrets that change while a recorder runs: mounted as files, read again.

use std::path::PathBuf;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};
use recording_crds::job::{Job, roles};

use crate::connect::ChannelSecret;

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

/// The Secret of a channel: a ready-made token, or an API key.
pub(crate) struct ChannelFiles {
    /// Of a token one, of an API key its key and its secret.
    paths: Vec<PathBuf>,
    texts: Vec<String>,
}

impl std::fmt::Debug for ChannelFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChannelFiles")
    }
}

impl ChannelFiles {
    /// None: the channel needs no Secret.
    pub(crate) fn of(job: &Job) -> Option<Self> {
        let paths = match (job.files.get(roles::TOKEN), job.files.get(roles::API_KEY)) {
            (Some(folder), _) => vec![folder.join(roles::TOKEN_KEY)],
            (None, Some(folder)) => vec![folder.join(roles::LIVEKIT_API_KEY), folder.join(roles::LIVEKIT_API_SECRET)],
            (None, None) => return None,
        };
        let texts = read_all(&paths).unwrap_or_default();
        Some(Self { paths, texts })
    }

    /// What is there, if it is something else than last time; files that are away or empty for a moment are no change.
    pub(crate) fn changed(&mut self) -> Option<ChannelSecret> {
        let texts = read_all(&self.paths).filter(|texts| *texts != self.texts && texts.iter().all(|text| !text.is_empty()))?;
        self.texts = texts;
        match &self.texts[..] {
            [token] => Some(ChannelSecret::Token(token.clone())),
            [key, secret] => Some(ChannelSecret::ApiKey { key: key.clone(), secret: secret.clone() }),
            _ => None,
        }
    }
}

fn read_all(paths: &[PathBuf]) -> Option<Vec<String>> {
    paths.iter().map(|path| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &std::path::Path, role: &str) -> ChannelFiles {
        let mut job = Job::parse(include_str!("../../crds/tests/golden/job-v1.json")).expect("the golden job");
        job.files = [(role.to_owned(), folder.to_owned())].into();
        ChannelFiles::of(&job).expect("a Secret")
    }

    #[test]
    fn a_changed_token_or_key_is_told_once_and_half_a_change_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write(roles::TOKEN_KEY, "first\n");
        let mut token = files(folder.path(), roles::TOKEN);
        assert_eq!(token.changed(), None, "what is there is in force");
        write(roles::TOKEN_KEY, "second\n");
        assert_eq!((token.changed(), token.changed()), (Some(ChannelSecret::Token("second".into())), None));
        write(roles::TOKEN_KEY, "");
        assert_eq!(token.changed(), None);
        std::fs::remove_file(folder.path().join(roles::TOKEN_KEY)).expect("removed");
        assert_eq!(token.changed(), None);

        write(roles::LIVEKIT_API_KEY, "k1");
        let mut key = files(folder.path(), roles::API_KEY);
        assert_eq!(key.changed(), None, "the secret is missing");
        write(roles::LIVEKIT_API_SECRET, "s1");
        assert_eq!(key.changed(), Some(ChannelSecret::ApiKey { key: "k1".into(), secret: "s1".into() }));
    }
}
