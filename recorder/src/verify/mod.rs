//! `recorder verify`: does storage hold what a manifest says, and do the playlists say the same?
//!
//! ```text
//! place ──> recording (manifest, ledger) ──> objects: every segment read and hashed ──> Findings ──> report, exit code
//!                                        └─> playlists: read, compared with the ledger ──┘ └──> repair
//! ```

mod finding;
mod listing;
mod objects;
mod place;
mod repair;
mod report;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use recorder_media::{LedgerEntry, Manifest, Outcome};
use recording_crds::exit;

use crate::manifest::{self, Head};
use crate::store::{Store, StoreFailure};
use finding::Finding;

/// Checks a stored recording against its manifest: every segment is there with the size and SHA-256 of the ledger, and every playlist
/// names exactly the stored segments, in order and with their durations. Media that the manifest itself calls lost is listed.
///
/// Exit status: 0 whole, 1 not, 2 wrong usage or no manifest there.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// A file, or s3://BUCKET/KEY with credentials from the standard AWS environment.
    #[arg(value_name = "MANIFEST")]
    manifest: String,
    /// The S3 server; default: AWS.
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL")]
    endpoint: Option<String>,
    #[arg(long, value_name = "REGION", env = "AWS_REGION", default_value = "us-east-1")]
    region: String,
    /// The bucket in the path instead of the host's name.
    #[arg(long)]
    force_path_style: bool,
    /// PEM certificates trusted besides the system's.
    #[arg(long, value_name = "FILE", env = "AWS_CA_BUNDLE")]
    ca_bundle: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    output: Output,
    /// Writes what a playlist left open lacks: stored segments it does not name yet, and EXT-X-ENDLIST. Segments are never touched.
    #[arg(long)]
    repair: bool,
    /// The recording is over though its manifest does not say so: its recorder is gone and none goes on.
    #[arg(long)]
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Human,
    Json,
}

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Place(String),
    #[error("failed to read the manifest: {0}")]
    Unreadable(#[from] StoreFailure),
    #[error("{0} is not there")]
    Absent(String),
    #[error(transparent)]
    Manifest(#[from] manifest::ManifestError),
    #[error("the manifest does not say that the recording is over; if its recorder is gone for good, add --over")]
    MayGoOn,
}

/// What a manifest and its chunks say.
#[derive(Debug)]
struct Recording {
    id: String,
    manifest: Manifest,
    over: bool,
}

impl Recording {
    fn ledger_of<'a>(&'a self, playlist: &'a str) -> impl Iterator<Item = &'a LedgerEntry> {
        self.manifest.ledger.iter().filter(move |entry| entry.playlist == playlist)
    }
}

/// The result of one run.
#[derive(Debug)]
struct Verdict {
    recording: Recording,
    findings: Vec<Finding>,
    /// What `--repair` did, as sentences.
    repairs: Vec<String>,
}

/// Runs to the end; returns the exit code (contracts.md).
pub(crate) async fn run(options: &Options) -> i32 {
    match check(options).await {
        Ok(verdict) => {
            print!("{}", report::text(&verdict, options));
            if verdict.findings.is_empty() { exit::VERIFY_WHOLE } else { exit::VERIFY_NOT_WHOLE }
        }
        Err(refused) => {
            eprintln!("error: {refused}");
            exit::VERIFY_REFUSED
        }
    }
}

async fn check(options: &Options) -> Result<Verdict, Refused> {
    let (store, key) = place::open(options).await?;
    let (recording, mut findings) = read(store.as_ref(), &key, options.over).await?;
    if options.repair && !recording.over {
        return Err(Refused::MayGoOn);
    }
    findings.extend(objects::check(store.as_ref(), &recording).await);
    let mut repairs = vec![];
    for record in &recording.manifest.playlists {
        let read = listing::read(store.as_ref(), &record.name).await;
        let found = listing::check(&recording, &record.name, &read);
        let repaired = match options.repair && !found.is_empty() {
            true => repair::playlist(store.as_ref(), &recording, &record.name, &read, &findings).await,
            false => None,
        };
        match repaired {
            Some(Ok(sentence)) => {
                repairs.push(sentence);
                let read = listing::read(store.as_ref(), &record.name).await;
                findings.extend(listing::check(&recording, &record.name, &read));
            }
            Some(Err(finding)) => findings.extend(found.into_iter().chain([finding])),
            None => findings.extend(found),
        }
    }
    Ok(Verdict { recording, findings, repairs })
}

/// The manifest with its whole ledger; chunks that are not there are findings.
async fn read(store: &dyn Store, key: &str, over: bool) -> Result<(Recording, Vec<Finding>), Refused> {
    let found = objects::fetch(store, key).await?.ok_or_else(|| Refused::Absent(key.to_owned()))?;
    let head: Head = manifest::parse(&found.body)?;
    let (id, mut chunks, mut findings) = (head.recording_id.clone(), vec![], vec![]);
    for name in &head.chunks {
        match objects::fetch(store, name).await {
            Ok(Some(chunk)) => chunks.push(chunk.body),
            Ok(None) => findings.push(Finding::Missing { object: name.clone() }),
            Err(why) => findings.push(Finding::Unreadable { object: name.clone(), why: why.to_string() }),
        }
    }
    let manifest = head.into_manifest(&chunks)?;
    let over = over || !matches!(manifest.outcome, None | Some(Outcome::Interrupted | Outcome::Superseded));
    Ok((Recording { id, manifest, over }, findings))
}
