//! Exit codes of the binaries (contracts.md).

/// `recorder`: the final result is written, good or bad.
pub const RESULT: i32 = 0;
/// `recorder`: ended by SIGTERM with something left to continue (128 + 15).
pub const INTERRUPTED: i32 = 143;
/// `recorder`: a result exists and cannot be written (EX_SOFTWARE).
pub const CANNOT_WRITE_RESULT: i32 = 70;

/// `recorder verify`: storage holds what the manifest says.
pub const VERIFY_WHOLE: i32 = 0;
/// `recorder verify`: it does not, or could not be read.
pub const VERIFY_NOT_WHOLE: i32 = 1;
/// `recorder verify`: wrong usage, or no manifest there; nothing was checked.
pub const VERIFY_REFUSED: i32 = 2;

/// `recording-operator local`: phase Completed.
pub const LOCAL_COMPLETED: i32 = 0;
/// `recording-operator local`: phase Failed.
pub const LOCAL_FAILED: i32 = 1;
/// `recording-operator local`: manifest or usage refused, nothing was started.
pub const LOCAL_REFUSED: i32 = 2;
/// `recording-operator local`: aborted by a second Ctrl-C; the spool is kept.
pub const LOCAL_ABORTED: i32 = 130;
