//! Secrets, ConfigMaps and claims as files: what the kubelet mounts into a pod, put into the state folder.

use super::documents::{self, Documents, Entries};
use super::process::StateFolder;
use crate::validate::{Source, SourceKind, ValidatedRecording};
use recording_crds::job::roles;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `NAME=DIR`, as `--secret`, `--configmap` and `--volume` take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedFolder {
    pub(super) name: String,
    pub(super) folder: PathBuf,
}

impl std::str::FromStr for NamedFolder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, folder)) if !name.is_empty() && !folder.is_empty() => Ok(Self { name: name.into(), folder: folder.into() }),
            _ => Err("expected NAME=DIR".into()),
        }
    }
}

/// Where what the spec refers to comes from.
#[derive(Debug, Default)]
pub(super) struct Sources<'a> {
    pub(super) documents: Option<&'a Documents>,
    pub(super) secrets: &'a [NamedFolder],
    pub(super) config_maps: &'a [NamedFolder],
    pub(super) volumes: &'a [NamedFolder],
    /// Replaces the spec's storage.
    pub(super) output: Option<&'a Path>,
}

/// Something that the spec refers to and nobody gave, or that cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{field}: {message}")]
    Missing { field: &'static str, message: String },
    #[error("failed to write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
}

/// Puts every role's files in place and says where they are.
pub(super) fn materialise(
    v: &ValidatedRecording,
    sources: &Sources<'_>,
    state: &StateFolder,
) -> Result<BTreeMap<String, PathBuf>, FileError> {
    let mut files = BTreeMap::new();
    for source in &v.files {
        files.insert(source.role.to_owned(), write(state, source.role, sources.entries(source)?)?);
    }
    let claims = [
        (roles::STORAGE, &v.claim, "spec.storage.volume.claimName"),
        (roles::BACKUP, &v.backup_claim, "spec.backupStorage.volume.claimName"),
    ];
    for (role, claim, field) in claims {
        if let Some(claim) = claim {
            files.insert(role.to_owned(), folder_for_media(sources.folder(claim, field)?)?);
        }
    }
    Ok(files)
}

/// Writes what has changed since; the recorder reads the old or the new content, never a part.
pub(super) fn refresh(v: &ValidatedRecording, sources: &Sources<'_>, state: &StateFolder) -> Result<(), FileError> {
    for source in &v.files {
        for (key, content) in sources.entries(source)? {
            let path = state.role(source.role).join(key);
            if std::fs::read(&path).is_ok_and(|there| there == content) {
                continue;
            }
            state.replace_private(&path, &content).map_err(|source| FileError::Write { path, source })?;
        }
    }
    Ok(())
}

/// Keys that a Secret used as a whole must have.
fn required_keys(role: &str) -> &'static [&'static str] {
    match role {
        roles::API_KEY => &[roles::LIVEKIT_API_KEY, roles::LIVEKIT_API_SECRET],
        roles::S3_CREDENTIALS | roles::BACKUP_CREDENTIALS => &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
        _ => &[],
    }
}

/// The entries that the role's folder holds, under the names it gives them.
fn selected(source: &Source, mut entries: Entries) -> Result<Entries, FileError> {
    let (kind, _) = words(source.kind);
    let lacks = |key: &str| FileError::Missing { field: source.field, message: format!("{kind} {} lacks {key}", source.name) };
    if let Some((key, file)) = &source.key {
        let content = entries.remove(key).ok_or_else(|| lacks(key))?;
        return Ok(Entries::from([((*file).to_owned(), content)]));
    }
    match required_keys(source.role).iter().find(|key| !entries.contains_key(**key)) {
        Some(key) => Err(lacks(key)),
        None => Ok(entries),
    }
}

/// The kind's name, and the flag that gives one.
fn words(kind: SourceKind) -> (&'static str, &'static str) {
    match kind {
        SourceKind::Secret => ("Secret", "--secret"),
        SourceKind::ConfigMap => ("ConfigMap", "--configmap"),
    }
}

impl Sources<'_> {
    /// A flag wins over a document: it is the more deliberate of the two.
    fn entries(&self, source: &Source) -> Result<Entries, FileError> {
        let ((kind, flag), name) = (words(source.kind), &source.name);
        let missing = |message| FileError::Missing { field: source.field, message };
        if let Some(named) = self.named(source) {
            let entries = documents::from_folder(&named.folder);
            let unreadable = |e| missing(format!("failed to read {flag} {name}={}: {e}", named.folder.display()));
            return selected(source, entries.map_err(unreadable)?);
        }
        let given = self.documents.and_then(|d| match source.kind {
            SourceKind::Secret => d.secrets.get(name),
            SourceKind::ConfigMap => d.config_maps.get(name),
        });
        let nowhere = format!(
            "there is no {kind} {name} here: put it into the file as another document, or give its keys as files with {flag} {name}=DIR"
        );
        selected(source, given.cloned().ok_or_else(|| missing(nowhere))?)
    }

    fn named(&self, source: &Source) -> Option<&NamedFolder> {
        let folders = match source.kind {
            SourceKind::Secret => self.secrets,
            SourceKind::ConfigMap => self.config_maps,
        };
        folders.iter().find(|named| named.name == source.name)
    }

    fn folder(&self, claim: &str, field: &'static str) -> Result<&Path, FileError> {
        let named = self.volumes.iter().find(|v| v.name == claim).map(|v| v.folder.as_path());
        self.output.or(named).ok_or_else(|| FileError::Missing {
            field,
            message: format!(
                "there is no claim {claim} here: give a folder for it with --volume {claim}=DIR, or store elsewhere with --output DIR"
            ),
        })
    }
}

fn write(state: &StateFolder, role: &str, entries: Entries) -> Result<PathBuf, FileError> {
    let folder = state.role(role);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FileError::Write { path, source }
    };
    std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
    for (key, content) in entries {
        let path = folder.join(key);
        state.replace_private(&path, &content).map_err(failed(&path))?;
    }
    Ok(folder)
}

/// The folder in which media will lie; made when missing, absolute because the recorder may run elsewhere.
fn folder_for_media(folder: &Path) -> Result<PathBuf, FileError> {
    std::fs::create_dir_all(folder)
        .and_then(|()| folder.canonicalize())
        .map_err(|source| FileError::Write { path: folder.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> ValidatedRecording {
        let manifest = format!("{{metadata: {{name: r, uid: 0f8c2a3b-1111-2222-3333-444455556666}}, spec: {text}}}");
        crate::validate::validate(&serde_yaml::from_str(&manifest).expect("a Recording"), Default::default()).expect("valid")
    }

    fn state() -> (tempfile::TempDir, StateFolder) {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::at(folder.path().to_owned());
        (folder, state)
    }

    const LIVEKIT: &str = "{channel: {name: a, livekit: {url: 'wss://a'}}, token: {secretKeyRef: {name: t, key: jwt}}, mode: Individual, storage: {volume: {claimName: c}}}";

    #[test]
    fn a_token_is_written_under_its_own_name_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, state) = state();
        let documents = Documents {
            recording: serde_json::Value::Null,
            secrets: BTreeMap::from([("t".to_owned(), Entries::from([("jwt".to_owned(), b"ey".to_vec())]))]),
            config_maps: BTreeMap::new(),
        };
        let volumes = [NamedFolder { name: "c".into(), folder: folder.path().join("media") }];
        let sources = Sources { documents: Some(&documents), volumes: &volumes, ..Sources::default() };
        let files = materialise(&spec(LIVEKIT), &sources, &state).expect("complete");
        let token = files[roles::TOKEN].join(roles::TOKEN_KEY);
        assert_eq!(std::fs::read(&token).expect("written"), b"ey");
        assert_eq!(std::fs::metadata(&token).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(files[roles::STORAGE].is_dir(), "the claim's folder is made");
    }

    #[test]
    fn what_is_missing_is_named_with_the_flag_that_gives_it() {
        let (folder, state) = state();
        let error = materialise(&spec(LIVEKIT), &Sources::default(), &state).expect_err("no token").to_string();
        assert!(error.starts_with("spec.token.secretKeyRef: ") && error.contains("--secret t=DIR"), "{error}");

        let secrets = [NamedFolder { name: "t".into(), folder: folder.path().to_owned() }];
        let error =
            materialise(&spec(LIVEKIT), &Sources { secrets: &secrets, ..Sources::default() }, &state).expect_err("no key").to_string();
        assert!(error.contains("Secret t lacks jwt"), "{error}");

        std::fs::write(folder.path().join("jwt"), "ey").expect("written");
        let error =
            materialise(&spec(LIVEKIT), &Sources { secrets: &secrets, ..Sources::default() }, &state).expect_err("no claim").to_string();
        assert!(error.contains("--volume c=DIR") && error.contains("--output"), "{error}");
    }

    #[test]
    fn a_changed_secret_is_written_again_and_half_a_one_is_not() {
        let (folder, state) = state();
        let source = folder.path().join("source");
        std::fs::create_dir(&source).expect("made");
        std::fs::write(source.join("jwt"), "old").expect("written");
        let secrets = [NamedFolder { name: "t".into(), folder: source.clone() }];
        let (v, sources) = (spec(LIVEKIT), Sources { secrets: &secrets, ..Sources::default() });
        std::fs::create_dir_all(state.role(roles::TOKEN)).expect("made");
        let token = state.role(roles::TOKEN).join(roles::TOKEN_KEY);
        std::fs::write(&token, "old").expect("written");
        std::fs::write(source.join("jwt"), "new").expect("written");
        let only_token = ValidatedRecording { files: v.files.iter().filter(|f| f.role == roles::TOKEN).cloned().collect(), ..v };
        refresh(&only_token, &sources, &state).expect("written");
        assert_eq!(std::fs::read(&token).expect("there"), b"new");
        std::fs::remove_file(source.join("jwt")).expect("removed");
        refresh(&only_token, &sources, &state).expect_err("a key is missing");
        assert_eq!(std::fs::read(&token).expect("still there"), b"new");
    }

    #[test]
    fn a_flag_is_name_and_folder() {
        assert_eq!("a=/b=c".parse(), Ok(NamedFolder { name: "a".into(), folder: "/b=c".into() }));
        assert!("a".parse::<NamedFolder>().is_err());
        assert!("=b".parse::<NamedFolder>().is_err());
    }
}
