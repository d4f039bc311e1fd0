//! Reads what `-f` names: one Recording, and the Secrets and ConfigMaps beside it.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Key -> content, as in a Secret or ConfigMap.
pub(crate) type Entries = BTreeMap<String, Vec<u8>>;

/// The documents of one or more manifest files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Documents {
    /// As written: it is checked against the schema before anything is made of it.
    pub(crate) recording: Value,
    pub(super) secrets: BTreeMap<String, Entries>,
    pub(super) config_maps: BTreeMap<String, Entries>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("failed to read {path}: {source}; give the path of a manifest, or - for standard input")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("failed to parse {path} as YAML: {source}")]
    Parse { path: PathBuf, source: serde_yaml::Error },
    #[error("document {number} of {path} is not usable: {message}")]
    Document { path: PathBuf, number: usize, message: String },
    #[error("there is no Recording in {0}; it must hold one document with kind: Recording")]
    NoRecording(String),
    #[error("there is more than one Recording in {0}; local mode runs one at a time: split the file")]
    SeveralRecordings(String),
}

/// Reads all files, in order.
pub(super) fn load(paths: &[PathBuf]) -> Result<Documents, DocumentError> {
    let text = |path: &PathBuf| read(path).map_err(|source| DocumentError::Read { path: path.clone(), source });
    let files = paths.iter().map(|path| Ok((path.clone(), text(path)?))).collect::<Result<Vec<_>, DocumentError>>()?;
    of_texts(&files)
}

/// What the files hold, by their paths.
pub(crate) fn of_texts(files: &[(PathBuf, String)]) -> Result<Documents, DocumentError> {
    let mut recordings = Vec::new();
    let mut secrets = BTreeMap::new();
    let mut config_maps = BTreeMap::new();
    for (path, text) in files {
        for (number, value) in parse(path, text)?.into_iter().enumerate() {
            let wrong = |message: String| DocumentError::Document { path: path.clone(), number: number + 1, message };
            match value.get("kind").and_then(Value::as_str) {
                Some("Recording") => recordings.push(value),
                Some("Secret") => {
                    let secret: Secret = typed(value).map_err(wrong)?;
                    secrets.insert(secret.metadata.name.clone().unwrap_or_default(), secret_entries(secret));
                }
                Some("ConfigMap") => {
                    let map: ConfigMap = typed(value).map_err(wrong)?;
                    config_maps.insert(map.metadata.name.clone().unwrap_or_default(), config_map_entries(map));
                }
                Some(other) => return Err(wrong(format!("kind {other}: local mode reads Recording, Secret and ConfigMap"))),
                None => return Err(wrong("it has no kind; expected kind: Recording, Secret or ConfigMap".into())),
            }
        }
    }
    let names = files.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>().join(", ");
    match (recordings.pop(), recordings.is_empty()) {
        (Some(recording), true) => Ok(Documents { recording, secrets, config_maps }),
        (None, _) => Err(DocumentError::NoRecording(names)),
        (Some(_), false) => Err(DocumentError::SeveralRecordings(names)),
    }
}

fn parse(path: &Path, text: &str) -> Result<Vec<Value>, DocumentError> {
    serde_yaml::Deserializer::from_str(text)
        .map(Value::deserialize)
        .filter(|value| !matches!(value, Ok(Value::Null)))
        .collect::<Result<_, _>>()
        .map_err(|source| DocumentError::Parse { path: path.to_owned(), source })
}

fn read(path: &Path) -> std::io::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path)
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn secret_entries(secret: Secret) -> Entries {
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0));
    let strings = secret.string_data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
    data.chain(strings).collect()
}

fn config_map_entries(map: ConfigMap) -> Entries {
    let text = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
    let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0));
    text.chain(binary).collect()
}

/// The files of a folder as entries; what `--secret NAME=DIR` and `--configmap NAME=DIR` name.
pub(super) fn from_folder(folder: &Path) -> std::io::Result<Entries> {
    let mut entries = Entries::new();
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        if file.path().is_file() {
            entries.insert(file.file_name().to_string_lossy().into_owned(), std::fs::read(file.path())?);
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.yaml");
        std::fs::write(&path, text).expect("written");
        (folder, path)
    }

    #[test]
    fn secrets_are_read_from_data_and_string_data() {
        let (_folder, path) = written(
            "kind: Secret\nmetadata: {name: a}\nstringData: {user: me}\ndata: {key: c2VjcmV0}\n---\nkind: Recording\nmetadata: {name: r}\n---\n",
        );
        let documents = load(&[path]).expect("readable");
        assert_eq!(documents.secrets["a"]["user"], b"me");
        assert_eq!(documents.secrets["a"]["key"], b"secret");
        assert_eq!(documents.recording["metadata"]["name"], "r");
    }

    #[test]
    fn none_or_two_recordings_are_refused_with_the_file_named() {
        let (_folder, none) = written("kind: ConfigMap\nmetadata: {name: a}\n");
        assert!(load(std::slice::from_ref(&none)).expect_err("no recording").to_string().contains("m.yaml"));
        let (_folder, two) = written("kind: Recording\n---\nkind: Recording\n");
        assert!(load(&[two]).expect_err("two").to_string().contains("one at a time"));
    }

    #[test]
    fn an_unknown_kind_and_a_missing_file_say_what_is_expected() {
        let (_folder, path) = written("kind: Pod\n");
        assert!(load(&[path]).expect_err("a pod").to_string().contains("reads Recording, Secret and ConfigMap"));
        assert!(load(&["/nowhere.yaml".into()]).expect_err("missing").to_string().contains("/nowhere.yaml"));
    }
}
