//! `recorder verify`, as a user runs it.

use crate::harness::binary;
use crate::harness::s3::S3;
use anyhow::{Context, Result};
use serde_json::Value;
use std::process::Command;

/// Of the one manifest in a bucket; exit code and the JSON verdict.
pub fn in_bucket(s3: &S3, bucket: &str, flags: &[&str]) -> Result<(i32, Value)> {
    let manifest = s3.list(bucket)?.into_iter().find(|key| key.ends_with(".json")).context("a manifest")?;
    let output = Command::new(binary("recorder")?)
        .args(["verify", &format!("s3://{bucket}/{manifest}"), "--endpoint", &s3.endpoint(), "--region", s3.region()])
        .args(["--force-path-style", "--output", "json"])
        .args(flags)
        .env("AWS_ACCESS_KEY_ID", s3.access_key())
        .env("AWS_SECRET_ACCESS_KEY", s3.secret_key())
        .output()?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code().unwrap_or(-1), serde_json::from_slice(&output.stdout).with_context(said)?))
}
