//! Wrong manifests and wrong worlds in local mode: a message that names the field or a code with a remedy, the right exit status, nothing lost.

use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::fixtures::WrongManifests;
use recording_crds::status::Phase;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::s3::S3;
use recording_tests::local::{Ended, Local, livekit_to_s3};
use std::time::Duration;

/// Seconds until a room is called empty: the least the API allows.
const IDLE: u32 = 5;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn every_wrong_manifest_is_refused_with_the_field_and_the_fix() -> Result<()> {
    let table = WrongManifests::load();
    let mut refused = 0;
    for wrong in table.wrong.iter().filter(|w| !w.update) {
        let manifest = serde_yaml::to_string(&table.manifest(wrong))?;
        let ended = Local::start(&manifest, &["--output", "."])?.wait(LIMIT)?;
        let said = ended.said.to_lowercase();
        ensure!(ended.exit_code == 2, "{}: exit {} and said {}", wrong.case, ended.exit_code, ended.said);
        ensure!(said.contains(&wrong.names.to_lowercase()), "{}: does not name {}: {}", wrong.case, wrong.names, ended.said);
        ensure!(said.contains(&wrong.says.to_lowercase()), "{}: does not say {:?}: {}", wrong.case, wrong.says, ended.said);
        refused += 1;
    }
    ensure!(refused >= 25, "only {refused} cases");
    Ok(())
}

#[test]
fn what_the_spec_refers_to_and_nobody_gave_is_refused_naming_the_flag() -> Result<()> {
    let manifest = "
apiVersion: recording-operator.io/v1alpha1
kind: Recording
metadata: {name: lonely}
spec:
  channel: {name: lonely, livekit: {url: 'ws://127.0.0.1:1'}}
  token: {secretKeyRef: {name: jwt, key: token}}
  mode: Individual
  storage: {volume: {claimName: media}}
";
    let folder = tempfile::tempdir()?;
    let ended = Local::start(manifest, &[])?.wait(LIMIT)?;
    ensure!(ended.exit_code == 2 && ended.said.contains("--secret jwt=DIR"), "{}", ended.said);
    std::fs::write(folder.path().join("token"), "x")?;
    let secret = format!("jwt={}", folder.path().display());
    let ended = Local::start(manifest, &["--secret", &secret])?.wait(LIMIT)?;
    ensure!(ended.exit_code == 2 && ended.said.contains("--volume media=DIR"), "{}", ended.said);
    Ok(())
}

#[test]
fn a_wrong_key_is_token_invalid() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let manifest =
        livekit_to_s3(&livekit, &s3, "room", "media", IDLE, 4).replace(livekit.api_secret(), "not-the-secret-that-the-server-has!!");
    let ended = Local::start(&manifest, &[])?.wait(LIMIT)?;
    failed(&ended, Code::TokenInvalid, Some(110))?;
    ensure!(!ended.said.contains("not-the-secret") && !ended.recorder_log().contains("not-the-secret"), "the secret was printed");
    Ok(())
}

#[test]
fn an_expired_token_is_token_expired_and_never_printed() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let mut claims = livekit.claims("room", "rec", serde_json::json!({"canSubscribe": true, "hidden": true}));
    claims["exp"] = 1_000_000_000.into();
    claims["nbf"] = 999_999_000.into();
    let token = livekit.sign(&claims);
    let manifest = livekit_to_s3(&livekit, &s3, "room", "media", IDLE, 4)
        .replace("apiKeySecretRef: {name: livekit}", "secretKeyRef: {name: jwt, key: t}")
        + &format!("---\nkind: Secret\napiVersion: v1\nmetadata: {{name: jwt}}\nstringData: {{t: '{token}'}}\n");
    let ended = Local::start(&manifest, &[])?.wait(LIMIT)?;
    failed(&ended, Code::TokenExpired, Some(109))?;
    let signature = token.rsplit('.').next().context("a signature")?;
    ensure!(!ended.said.contains(signature) && !ended.recorder_log().contains(signature), "the token was printed");
    Ok(())
}

#[test]
fn an_unknown_host_is_connect_error() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let manifest = livekit_to_s3(&livekit, &s3, "room", "media", IDLE, 4).replace(&livekit.url(), "ws://sfu.invalid:7880");
    // 90 s of tries (api.md), and what it takes to start and to end.
    let ended = Local::start(&manifest, &[])?.wait(Duration::from_secs(120))?;
    failed(&ended, Code::ConnectError, Some(430))?;
    ensure!(ended.said.contains("sfu.invalid"), "the message names the host: {}", ended.said);
    Ok(())
}

#[test]
fn a_missing_bucket_is_invalid_parameter_before_the_room_is_joined() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    let ended = Local::start(&livekit_to_s3(&livekit, &s3, "room", "nowhere", IDLE, 4), &[])?.wait(LIMIT)?;
    failed(&ended, Code::InvalidParameter, Some(432))?;
    let message = ended.status()?.failure.clone().and_then(|failure| failure.message).unwrap_or_default();
    ensure!(message.contains("bucket nowhere"), "the message names the bucket: {message}");
    let rooms = livekit.room_service("ListRooms", serde_json::json!({}))?;
    ensure!(rooms["rooms"].as_array().is_none_or(Vec::is_empty), "a room was made: {rooms}");
    Ok(())
}

#[test]
fn wrong_storage_credentials_are_uploader_init() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let manifest = livekit_to_s3(&livekit, &s3, "room", "media", IDLE, 4).replace(s3.secret_key(), "wrongwrongwrong");
    let ended = Local::start(&manifest, &[])?.wait(LIMIT)?;
    failed(&ended, Code::UploaderInit, Some(438))
}

#[test]
fn nobody_ever_came_is_no_recorded_data() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let ended = Local::start(&livekit_to_s3(&livekit, &s3, "room", "media", IDLE, 4), &[])?.wait(LIMIT)?;
    failed(&ended, Code::NoRecordedData, Some(435))?;
    let result = ended.status()?.result.clone().context("a result")?;
    ensure!(matches!(result.reason, Code::NoUsers | Code::NoRecordedData), "{result:?}");
    Ok(())
}

/// Failed with this code, its number and a remedy; exit status 1.
fn failed(ended: &Ended, code: Code, number: Option<i64>) -> Result<()> {
    let status = ended.status()?;
    let log = ended.recorder_log();
    ensure!(ended.exit_code == 1, "exit {}: {}\n{log}", ended.exit_code, ended.said);
    ensure!(status.phase == Some(Phase::Failed), "{status:?}\n{log}");
    let failure = status.failure.clone().context("a failure")?;
    ensure!(failure.code == code && failure.number == number, "{failure:?}\n{log}");
    ensure!(failure.remedy.as_ref().is_some_and(|r| r.len() > 10), "{failure:?}");
    ensure!(recording_crds::conditions::is_true(&status.conditions, recording_crds::conditions::FAILED), "{:?}", status.conditions);
    Ok(())
}
