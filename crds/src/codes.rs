//! Failure and ending codes: stable names, the field's known numbers, who must act and what to do.

use serde::{Deserialize, Deserializer, Serialize};

/// Which part of the system a code speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Component {
    Recorder,
    Uploader,
    Service,
}

/// Who has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nothing is wrong.
    Nobody,
    /// Whoever wrote the Recording.
    Author,
    /// Whoever runs the cluster or the network.
    Platform,
    /// Whoever runs the SFU.
    RoomOperator,
    /// Whoever runs the storage.
    StorageOperator,
    /// Us: a bug.
    Developers,
}

/// Does this code end a recording?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// In good order: Completed when media was stored.
    InOrder,
    Failed,
    /// Stated while it lasts.
    No,
}

macro_rules! codes {
    ($($name:ident $number:expr, $component:ident, $ends:ident, $who:ident, $meaning:literal, $remedy:literal;)*) => {
        /// A condition reason, metric label and event reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Code { $(#[doc = $meaning] $name,)* }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$name,)*];
            pub fn as_str(self) -> &'static str { match self { $(Code::$name => stringify!($name),)* } }
            /// The number the field knows it by, where one exists.
            pub fn number(self) -> Option<u16> { match self { $(Code::$name => $number,)* } }
            pub fn component(self) -> Component { match self { $(Code::$name => Component::$component,)* } }
            pub fn ends(self) -> Ends { match self { $(Code::$name => Ends::$ends,)* } }
            pub fn who(self) -> Who { match self { $(Code::$name => Who::$who,)* } }
            pub fn meaning(self) -> &'static str { match self { $(Code::$name => $meaning,)* } }
            /// What to do about it, one sentence.
            pub fn remedy(self) -> &'static str { match self { $(Code::$name => $remedy,)* } }
        }
    };
}

codes! {
    ConnectError Some(430), Recorder, Failed, Platform, "the SFU cannot be reached (signalling or media)",
        "Check the channel's url and that the pod may reach the SFU: TCP for signalling, UDP for media.";
    Disconnected Some(431), Recorder, Failed, Platform, "the connection to the SFU was lost and did not return",
        "Check the SFU and the network between it and the pod; apply a new Recording to go on.";
    InvalidParameter Some(432), Service, Failed, Author, "the SFU or the storage rejects what the spec says",
        "Correct the room or the bucket named in the message and apply a new Recording.";
    InvalidOperation Some(433), Service, No, Author, "an order that does not fit the state",
        "Look at status.phase; a finished recording cannot be started again.";
    NoUsers Some(434), Recorder, InOrder, Nobody, "nobody was left in the room for idleTimeoutSeconds",
        "Nothing to do.";
    NoRecordedData Some(435), Recorder, Failed, Author, "nothing was ever published",
        "Check that people join this channel and publish, or raise idleTimeoutSeconds.";
    RecorderInit Some(436), Recorder, Failed, Platform, "the recorder could not start",
        "Read the message and the recorder's log; check image, job and spool.";
    RecorderFailed Some(437), Recorder, Failed, Developers, "an internal error of the recorder",
        "Keep the recorder's log and report it.";
    UploaderInit Some(438), Uploader, Failed, StorageOperator, "storage credentials or access are wrong",
        "Check the credentials in credentialsSecretRef and that they may put and get objects below the prefix.";
    UploaderFailed Some(439), Uploader, Failed, StorageOperator, "objects could not be stored until drainTimeoutSeconds",
        "Repair the storage; the manifest lists what is missing.";
    BackupFailed Some(440), Uploader, No, StorageOperator, "the backup storage refuses too; data stays in the spool",
        "Repair one of the two storages before drainTimeoutSeconds is over.";
    RecorderExit Some(441), Recorder, Failed, Platform, "the recorder ended without a result, again and again",
        "Read the last pod's log and its memory limit; three attempts in a row recorded nothing.";
    GeneralError Some(442), Service, Failed, Developers, "anything else",
        "Read the message; keep the controller's log and report it.";
    TokenExpired Some(109), Recorder, Failed, Author, "the token has expired",
        "Put a fresh token into the Secret, or let the recorder mint one with apiKeySecretRef.";
    TokenInvalid Some(110), Recorder, Failed, Author, "the SFU does not accept the token",
        "Check the API key and secret, and that the token is for this room and grants roomJoin and canSubscribe.";
    DecryptionFailed Some(120), Recorder, No, Author, "end-to-end encrypted media cannot be recorded",
        "Turn end-to-end encryption off for this room.";
    RemovedFromChannel Some(123), Recorder, InOrder, RoomOperator, "the SFU removed the recorder or the room was deleted",
        "Nothing to do if that was intended.";
    Superseded None, Recorder, No, Nobody, "a newer attempt has the recording",
        "Nothing to do.";
    StopRequested None, Service, InOrder, Nobody, "desiredState was set to Stopped",
        "Nothing to do.";
    Deleted None, Service, InOrder, Nobody, "the Recording was deleted",
        "Nothing to do.";
    MaxDurationReached None, Service, InOrder, Nobody, "maxDurationSeconds is over",
        "Raise maxDurationSeconds for longer recordings.";
    StartDeadlineExceeded None, Service, Failed, Platform, "no recorder could start within startDeadlineSeconds",
        "Read the conditions for what kept the pod from starting.";
    Unschedulable None, Service, No, Platform, "no node takes the recorder pod",
        "Free resources, or change pod.resources, nodeSelector or tolerations.";
    ImageUnavailable None, Service, No, Platform, "the recorder image cannot be pulled",
        "Check the controller's --recorder-image, the pull policy and pod.imagePullSecrets.";
    SecretNotFound None, Service, No, Author, "a Secret or ConfigMap that the spec names is not there, or lacks the key",
        "Create it in the Recording's namespace; the pod starts by itself then.";
    VolumeUnavailable None, Service, No, Platform, "the storage volume cannot be mounted",
        "Check that the PersistentVolumeClaim exists, is bound, and can be mounted on the node.";
    QuotaExceeded None, Service, No, Platform, "the namespace's quota or policy refuses the pod",
        "Raise the quota, lower pod.resources, or end other pods.";
    NodeLost None, Service, No, Platform, "the node of the recorder does not answer",
        "Nothing to do: the next attempt goes on elsewhere.";
    CodecNotSupported None, Recorder, No, Author, "a track's codec cannot be recorded as asked",
        "Publish video as H.264, VP8, VP9 or AV1 and sound as Opus.";
    LayoutImageUnavailable None, Recorder, No, Author, "an image that spec.layout names cannot be shown",
        "Check the address in the message from where the recorder runs: a PNG or JPEG of at most 6 MiB and 9 megapixels, on a public address.";
    DiskFull None, Recorder, No, Platform, "the spool is full: media is not accepted until uploads have freed room",
        "Repair the storage, or raise pod.spool.sizeLimit.";
    Overloaded None, Recorder, No, Platform, "the recorder cannot keep up",
        "Give the pod more CPU.";
}

/// A name that this version does not know comes from a newer recorder or controller: the rest of what it says must stay readable.
impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Ok(Code::ALL.iter().copied().find(|code| code.as_str() == name).unwrap_or(Code::GeneralError))
    }
}

/// As for codes.
impl<'de> Deserialize<'de> for Component {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let all = [Component::Recorder, Component::Uploader, Component::Service];
        Ok(all.into_iter().find(|component| component.to_string() == name).unwrap_or(Component::Service))
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_are_the_fields_and_unique() {
        let numbers: Vec<u16> = Code::ALL.iter().filter_map(|c| c.number()).collect();
        assert_eq!(numbers.len(), numbers.iter().collect::<BTreeSet<_>>().len());
        assert_eq!(Code::NoUsers.number(), Some(434));
        assert_eq!(Code::TokenInvalid.number(), Some(110));
        assert_eq!(Code::UploaderInit.component(), Component::Uploader);
    }

    #[test]
    fn a_code_is_its_name_in_json() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).expect("serialisable"), code.as_str());
            assert_eq!(serde_json::from_value::<Code>(code.as_str().into()).expect("readable"), *code);
        }
    }

    #[test]
    fn what_a_newer_version_says_is_a_general_error_of_the_service() {
        assert_eq!(serde_json::from_str::<Code>("\"CameraOnFire\"").expect("readable"), Code::GeneralError);
        assert_eq!(serde_json::from_str::<Component>("\"Mixer\"").expect("readable"), Component::Service);
        assert_eq!(serde_json::from_str::<Component>("\"Uploader\"").expect("readable"), Component::Uploader);
        assert!(serde_json::from_str::<Code>("7").is_err());
    }

    #[test]
    fn every_remedy_is_a_sentence() {
        for code in Code::ALL {
            assert!(code.remedy().ends_with('.') && code.remedy().len() > 10, "{code}");
        }
    }
}
