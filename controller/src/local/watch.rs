//! The manifest's files while a recording runs, read again: saving one is to local mode what `kubectl apply` is to a cluster.

use super::documents::{self, Documents};
use super::files::{self, NamedFolder, Sources};
use super::process::StateFolder;
use super::{Refused, local_storage};
use crate::manifest;
use crate::validate::{self, ValidatedRecording};
use k8s_openapi::jiff::Timestamp;
use recording_crds::Recording;
use std::path::{Path, PathBuf};

/// Where a manifest and what it refers to come from.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    pub(super) manifests: Vec<PathBuf>,
    pub(super) secrets: Vec<NamedFolder>,
    pub(super) config_maps: Vec<NamedFolder>,
    pub(super) volumes: Vec<NamedFolder>,
    pub(super) output: Option<PathBuf>,
}

impl Inputs {
    pub(super) fn sources<'a>(&'a self, documents: &'a Documents) -> Sources<'a> {
        Sources {
            documents: Some(documents),
            secrets: &self.secrets,
            config_maps: &self.config_maps,
            volumes: &self.volumes,
            output: self.output.as_deref(),
        }
    }
}

/// What is in force, and where it came from.
#[derive(Debug)]
pub(super) struct Watched {
    inputs: Inputs,
    /// As last read, good or bad: only a change is news.
    seen: Documents,
    /// As last accepted: what an update is measured by.
    accepted: serde_json::Value,
}

impl Watched {
    pub(super) fn new(inputs: Inputs, documents: Documents) -> Self {
        let accepted = documents.recording.clone();
        Self { inputs, seen: documents, accepted }
    }

    /// The changed Recording, or what is wrong with it; then the one before stays in force. Secrets and ConfigMaps that changed are
    /// written where the recorder reads them.
    pub(super) fn look(
        &mut self,
        recording: &Recording,
        validated: &ValidatedRecording,
        state: &StateFolder,
    ) -> Option<Result<(Recording, ValidatedRecording), Refused>> {
        // Standard input cannot be read twice; a file that is being written is looked at again.
        if self.inputs.manifests.iter().any(|path| path == Path::new("-")) {
            return None;
        }
        let documents = documents::load(&self.inputs.manifests).ok()?;
        if let Err(error) = files::refresh(validated, &self.inputs.sources(&documents), state) {
            tracing::debug!(%error, "what the manifest refers to is not there at the moment");
        }
        let changed = documents.recording != self.seen.recording;
        self.seen = documents;
        if !changed {
            return None;
        }
        let update = self.update(recording);
        if update.is_ok() {
            self.accepted = self.seen.recording.clone();
        }
        Some(update)
    }

    fn update(&self, recording: &Recording) -> Result<(Recording, ValidatedRecording), Refused> {
        let new = &self.seen.recording;
        let problems = manifest::check_update(new, &self.accepted);
        if !problems.is_empty() {
            return Err(Refused(problems.iter().map(ToString::to_string).collect()));
        }
        let mut new: Recording = serde_json::from_value(manifest::with_defaults(new))?;
        if new.metadata.name != recording.metadata.name {
            return Err(Refused(vec!["metadata.name: cannot be changed: this is the file of a recording that runs".into()]));
        }
        new.metadata = recording.metadata.clone();
        new.metadata.generation = recording.metadata.generation.map(|generation| generation + 1);
        local_storage(&mut new, self.inputs.output.is_some());
        let validated = validate::validate(&new, Timestamp::now())?;
        Ok((new, validated))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use recording_crds::job::{JobState, roles};

    const MANIFEST: &str = "apiVersion: recording-operator.io/v1alpha1
kind: Recording
metadata: {name: standup}
spec:
  channel: {name: standup, livekit: {url: 'wss://sfu.example.com'}}
  token: {secretKeyRef: {name: t, key: jwt}}
  mode: Individual
  storage: {volume: {claimName: c}}
";

    struct Desk {
        folder: tempfile::TempDir,
        state: StateFolder,
        recording: Recording,
        validated: ValidatedRecording,
        watched: Watched,
    }

    impl Desk {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::create_dir(folder.path().join("secret")).expect("a folder");
            let state = StateFolder::at(folder.path().join("state"));
            let inputs = Inputs {
                manifests: vec![folder.path().join("m.yaml")],
                secrets: vec![NamedFolder { name: "t".into(), folder: folder.path().join("secret") }],
                config_maps: vec![],
                volumes: vec![NamedFolder { name: "c".into(), folder: folder.path().join("media") }],
                output: None,
            };
            std::fs::write(folder.path().join("secret/jwt"), "first").expect("written");
            std::fs::write(&inputs.manifests[0], MANIFEST).expect("written");
            let documents = documents::load(&inputs.manifests).expect("readable");
            let mut recording: Recording = serde_json::from_value(manifest::with_defaults(&documents.recording)).expect("a Recording");
            recording.metadata.uid = Some(crate::fixture::UID.into());
            recording.metadata.generation = Some(1);
            let validated = validate::validate(&recording, Timestamp::now()).expect("valid");
            files::materialise(&validated, &inputs.sources(&documents), &state).expect("complete");
            Self { watched: Watched::new(inputs, documents), folder, state, recording, validated }
        }

        fn save(&mut self, text: &str) -> Option<Result<ValidatedRecording, Vec<String>>> {
            std::fs::write(self.folder.path().join("m.yaml"), text).expect("written");
            match self.watched.look(&self.recording, &self.validated, &self.state)? {
                Ok((recording, validated)) => {
                    (self.recording, self.validated) = (recording, validated.clone());
                    Some(Ok(validated))
                }
                Err(Refused(messages)) => Some(Err(messages)),
            }
        }
    }

    #[test]
    fn a_saved_change_is_a_new_generation_of_the_same_recording() {
        let mut desk = Desk::new();
        assert!(desk.save(MANIFEST).is_none(), "nothing changed");
        let id = desk.validated.recording_id.clone();
        let v = desk.save(&MANIFEST.replace("mode:", "subscription: {audio: {deny: [bob]}}\n  mode:")).expect("news").expect("good");
        assert_eq!((v.generation, &v.recording_id), (2, &id));
        assert!(v.spec.subscription.is_some());
        let v = desk.save(&format!("{MANIFEST}  desiredState: Stopped\n")).expect("news").expect("good");
        assert_eq!((v.generation, v.order.state), (3, JobState::Stopped));
        assert!(v.spec.subscription.is_none(), "what is not written any more is not in force any more");
    }

    #[test]
    fn what_cannot_be_changed_is_said_once_and_the_former_stays_in_force() {
        let mut desk = Desk::new();
        let wrong = MANIFEST.replace("wss://sfu", "wss://other");
        let said = desk.save(&wrong).expect("news").expect_err("immutable");
        assert!(said[0].contains("spec.channel cannot be changed"), "{said:?}");
        assert!(desk.save(&wrong).is_none(), "said once");
        assert!(desk.save("kind: [").is_none(), "half a file is no news");
        let said = desk.save(&MANIFEST.replace("name: standup}\nspec", "name: other}\nspec")).expect("news").expect_err("another");
        assert!(said[0].starts_with("metadata.name"), "{said:?}");
        let v = desk.save(&format!("{MANIFEST}  idleTimeoutSeconds: 60\n")).expect("news").expect("good");
        assert_eq!((v.generation, v.timeouts.idle), (2, 60));
    }

    #[test]
    fn a_changed_secret_reaches_the_file_that_the_recorder_reads() {
        let mut desk = Desk::new();
        let token = desk.state.role(roles::TOKEN).join(roles::TOKEN_KEY);
        std::fs::write(desk.folder.path().join("secret/jwt"), "second").expect("written");
        assert!(desk.save(MANIFEST).is_none());
        assert_eq!(std::fs::read_to_string(&token).expect("there"), "second");
        std::fs::remove_file(desk.folder.path().join("secret/jwt")).expect("removed");
        assert!(desk.save(MANIFEST).is_none());
        assert_eq!(std::fs::read_to_string(&token).expect("there"), "second", "a Secret that is away changes nothing");
    }
}
