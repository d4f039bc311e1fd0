//! Paths and the port inside a recorder pod.

pub const JOB_FOLDER: &str = "/etc/recorder";
pub const JOB: &str = "/etc/recorder/job";
/// One folder per role below this one, mounted whole: a subPath mount would never see an update.
pub const SECRETS: &str = "/run/recorder/secrets";
pub const SPOOL: &str = "/spool";
pub const STORAGE: &str = "/storage";
pub const BACKUP: &str = "/backup";
pub const TERMINATION_LOG: &str = "/dev/termination-log";
pub const PORT: u16 = 8080;
pub const PORT_NAME: &str = "http";
