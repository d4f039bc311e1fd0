//! Starts the real servers that the tests run against, and leaves nothing behind.
//!
//! Everything here is plain blocking code: a test of any kind can call it, and none of it needs a runtime.
//! Nothing waits by sleeping for "long enough": every wait has a condition and a time-out ([`process::wait_until`]).

pub mod cluster;
pub mod detour;
pub mod livekit;
pub mod ports;
pub mod process;
pub mod relay;
pub mod s3;
pub mod s3_proxy;
pub mod starved;
pub mod usage;
pub mod web;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_path_buf()
}

/// A server or client that `make tools` built.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = workspace().join("target/tools/bin").join(name);
    ensure!(path.exists(), "{} is missing: run `make tools`", path.display());
    Ok(path)
}

/// One of the workspace's own binaries, built in the same profile as the running program: beside it, or beside the folder `deps` that tests lie in.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find the running executable")?;
    let folder = own.parent().unwrap_or(Path::new(""));
    let path = if folder.ends_with("deps") { folder.with_file_name(name) } else { folder.join(name) };
    ensure!(path.exists(), "{} is missing: run `make build`", path.display());
    Ok(path)
}

/// The Python of `target/venv`, in which the LiveKit SDK is installed.
pub fn python() -> Result<PathBuf> {
    let path = workspace().join("target/venv/bin/python");
    ensure!(path.exists(), "{} is missing: run `make tools`", path.display());
    Ok(path)
}

/// `target/test-logs/<test program>/<test>/`, emptied when a test of this process first asks for it.
///
/// A test's name is its thread's name, which libtest sets; threads of a runtime share the folder of their test program.
pub fn logs() -> Result<PathBuf> {
    static EMPTIED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main" && !name.starts_with("tokio")).unwrap_or("shared");
    let folder = workspace().join("target/test-logs").join(program_name()).join(test.replace("::", "."));
    let mut emptied = EMPTIED.lock().unwrap_or_else(PoisonError::into_inner);
    if emptied.get_or_insert_default().insert(folder.clone()) && folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("failed to empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(folder)
}

/// The test program's name without the hash that cargo appends.
fn program_name() -> String {
    let exe = std::env::current_exe().unwrap_or_default();
    let stem = exe.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match stem.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 => name.to_owned(),
        _ => stem,
    }
}
