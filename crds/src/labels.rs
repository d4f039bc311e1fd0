//! Names of labels, annotations and finalizers. They are API: changing one breaks running recordings.

pub const GROUP: &str = "recording-operator.io";

pub const NAME: &str = "app.kubernetes.io/name";
pub const NAME_RECORDER: &str = "recorder";
pub const COMPONENT: &str = "app.kubernetes.io/component";
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const MANAGER: &str = "recording-operator";
pub const RECORDING: &str = "recording-operator.io/recording";
pub const RECORDING_ID: &str = "recording-operator.io/recording-id";
pub const ATTEMPT: &str = "recording-operator.io/attempt";
/// The version of the job contract this pod was created with; a newer controller keeps writing it.
pub const JOB_VERSION: &str = "recording-operator.io/job-version";

/// Annotation: the job, projected into the pod as a file.
pub const JOB: &str = "recording-operator.io/job";

/// Annotation on a pod: attempts in a row, before this pod's, that counted and recorded nothing. The budget's memory lies on the pods.
pub const FRUITLESS: &str = "recording-operator.io/fruitless-attempts";
/// Annotation on a pod: seconds recorded when it was created.
pub const RECORDED_BEFORE: &str = "recording-operator.io/recorded-seconds-before";

/// On a Recording: deletion waits until its media is stored.
pub const FINISH: &str = "recording-operator.io/finish";
/// On a pod: keeps its termination message until the controller has read it.
pub const RESULT: &str = "recording-operator.io/result";
