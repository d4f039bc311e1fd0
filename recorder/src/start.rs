//! From a job to a running recording, and from its end to a result and an exit code.

mod backup;
mod behind;
mod fence;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recorder_media::{Config, Input, Manifest, MediaKinds, MediaTime, ReportQuality, Resume, Session, StoreError, Tick};
use recording_crds::codes::Code;
use recording_crds::exit;
use recording_crds::job::{Job, JobKind, JobState};
use recording_crds::names;
use recording_crds::recording::{ChannelProfile, Media};
use recording_crds::report::ReportOutcome;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::audio::{self, AudioChains};
use crate::cli::Cli;
use crate::compose::Album;
use crate::connect::{self, Connector, EVENT_QUEUE};
use crate::credentials::ChannelFiles;
use crate::driver::{Driver, Ending, Progress, Sources};
use crate::http::{self, Shown};
use crate::images::Images;
use crate::job::{self, JobFile};
use crate::manifest::{self, Identity};
use crate::metrics::Metrics;
use crate::outcome::{self, InitFailure};
use crate::replay::Numbers;
use crate::report::{self, Publisher};
use crate::spool::journal::Intake;
use crate::spool::{Folders, Spool, recovery};
use crate::stills::Stills;
use crate::store::{self, StoreFailure};
use crate::timeline::Timeline;
use crate::transcode::Transcoders;
use crate::uploader::{DocumentWriter, Primary, Storage, Uploader};

/// Storage that cannot be reached at the start is tried for so long. Then a first attempt begins without it (media waits in the
/// spool); a later one must know what its predecessor stored.
const STORAGE_PATIENCE: Duration = Duration::from_secs(15);
/// Images are waited for so long before a journal is composed.
const IMAGES_PATIENCE: Duration = Duration::from_secs(5);
const STORAGE_RETRY: Duration = Duration::from_millis(500);
/// Orders to a connector that has no time: beyond this they are dropped, the session repeats what matters.
const CONNECT_ORDERS: usize = 64;

/// Runs a job to its end; returns the exit code (contracts.md).
pub(crate) async fn run(cli: &Cli) -> i32 {
    let job = match job::read(&cli.job) {
        Ok(job) => job,
        Err(error) => {
            let publisher = Publisher::new(0, 0);
            return failed(cli, &publisher, InitFailure::new(Code::RecorderInit, error.to_string()));
        }
    };
    let publisher = Publisher::new(job.attempt, job.generation);
    match record(cli, &job, &publisher).await {
        Ok(ending) => finish(cli, &publisher, ending),
        Err(failure) => failed(cli, &publisher, failure),
    }
}

fn failed(cli: &Cli, publisher: &Publisher, failure: InitFailure) -> i32 {
    tracing::error!(code = %failure.code, "{}", failure.message);
    publisher.finish(Some(ReportOutcome::new(failure.code, failure.message, false, true)));
    conclude(cli, publisher, exit::RESULT)
}

fn finish(cli: &Cli, publisher: &Publisher, ended: Ended) -> i32 {
    let code = match ended.ending {
        Ending::Abandoned => None,
        Ending::Failed(why) => Some((Code::RecorderFailed, why)),
        Ending::Finished { outcome, reason } => outcome::code(outcome, reason.as_ref()),
    };
    let last_word = code.as_ref().map(|(code, message)| outcome::report(*code, message, &ended.report));
    publisher.finish(last_word);
    tracing::info!(code = code.as_ref().map_or("Interrupted", |(code, _)| code.as_str()), "ended");
    conclude(cli, publisher, if code.is_some() { exit::RESULT } else { exit::INTERRUPTED })
}

fn conclude(cli: &Cli, publisher: &Publisher, code: i32) -> i32 {
    match report::write_termination_message(&cli.termination_log, &publisher.current()) {
        Ok(()) => code,
        Err(error) => {
            tracing::error!(%error, "failed to write the result");
            exit::CANNOT_WRITE_RESULT
        }
    }
}

struct Ended {
    ending: Ending,
    report: recorder_media::Report,
}

async fn record(cli: &Cli, job: &Job, publisher: &Publisher) -> Result<Ended, InitFailure> {
    let metrics = Arc::new(Metrics::new().map_err(|error| internal("set up metrics", &error))?);
    if cli.listen != "none" {
        let shown = Shown { publisher: publisher.clone(), metrics: metrics.clone() };
        http::serve(&cli.listen, shown).await.map_err(|error| internal("listen", &error))?;
    }
    let connector = connector(job)?;
    let identity = Identity {
        stem: job.stem.clone(),
        recording_id: job.recording_id.clone(),
        channel: job.spec.channel.name.clone(),
        app_id: job.spec.channel.app_id.clone(),
    };
    let place = |store, primary| Arc::new(Storage { store, manifest_key: names::manifest_key(&job.stem), attempt: attempt(job), primary });
    let storage = place(store::open(job).await?, None);
    let backup = store::open_backup(job).await?.map(|store| place(store, Some(Primary::new(storage.clone()))));
    let folders = Folders::new(&cli.spool);
    folders.create().map_err(|error| internal("create the spool", &error))?;
    let Found { mut manifest, intake } = find(job, &folders, &storage, backup.as_deref()).await?;
    if let (Some(manifest), Some(backup)) = (&mut manifest, &backup) {
        backup::look_for_copies(manifest, backup).await;
    }
    let (timeline, began) = match &intake {
        Some((intake, timeline)) => (*timeline, intake.began),
        None => (Timeline::begin(), Tick(0)),
    };
    let intake = intake.map(|(intake, _)| intake);
    let mut session = Session::new(config(job, resume(manifest, intake.as_ref())), began, timeline.wall_at(began));
    let (primary, backup) = backup::claim(job, storage, backup, &identity, &mut session).await?;

    let (results, taken) = mpsc::unbounded_channel();
    let ledger = folders.ledger();
    let spool = Spool::start(folders, job.spool_bytes, results.clone()).map_err(|error| internal("start the spool", &error))?;
    let journal = spool.journal(intake.as_ref()).map_err(|error| internal("open the journal", &error))?;
    let uploader = Uploader::start(primary, backup, ledger, results.clone());
    let (orders, events, cancel) = join(connector);
    let album = Arc::new(Album::default());
    let mut images = Images::new(album.clone(), cli.allow_private_images);
    job::images(job).into_iter().for_each(|wanted| images.want(wanted));
    if intake.is_some() {
        // What an earlier process was given is composed at once.
        images.settled(IMAGES_PATIENCE).await;
    }
    let driver = Driver {
        session,
        timeline,
        journal,
        numbers: Numbers::default(),
        identity,
        spool,
        audio: AudioChains::new(audio::profile(job.spec.audio_profile)),
        transcoders: Transcoders::new(results.clone(), album),
        stills: Stills::new(results.clone()),
        images,
        uploader,
        orders,
        secret: ChannelFiles::of(job),
        publisher: publisher.clone(),
        metrics,
        state: Progress::default(),
    };
    let jobs = first_orders(cli, job, &results);
    let ended = driver.run(Sources { events, jobs, results: taken }, intake).await;
    cancel.cancel();
    Ok(Ended { ending: ended.0, report: ended.1 })
}

fn internal(what: &str, error: &dyn std::fmt::Display) -> InitFailure {
    InitFailure::new(Code::RecorderInit, format!("failed to {what}: {error}"))
}

/// None for a job that is to end what was recorded: it joins nothing.
pub(crate) fn connector(job: &Job) -> Result<Option<Box<dyn Connector>>, InitFailure> {
    if job.kind == JobKind::Close || job.desired_state != JobState::Recording {
        return Ok(None);
    }
    let secrets = connect::Secrets::read(job).map_err(|error| internal("read the channel's secrets", &error))?;
    let invalid = |error: connect::BuildError| InitFailure::new(Code::InvalidParameter, error.to_string());
    connect::build(job, secrets).map(Some).map_err(invalid)
}

pub(crate) type Joined = (mpsc::Sender<connect::ConnectOrder>, mpsc::Receiver<connect::Stamped<connect::Event>>, CancellationToken);

pub(crate) fn join(connector: Option<Box<dyn Connector>>) -> Joined {
    let (orders, taken) = mpsc::channel(CONNECT_ORDERS);
    let (events_in, events) = mpsc::channel(EVENT_QUEUE);
    let cancel = CancellationToken::new();
    if let Some(connector) = connector {
        tokio::spawn(connector.run(events_in, taken, cancel.clone()));
    }
    (orders, events, cancel)
}

/// A Close job stops at once; what the job file says later is watched.
fn first_orders(cli: &Cli, job: &Job, results: &mpsc::UnboundedSender<Input>) -> mpsc::Receiver<Job> {
    let mut now = job.clone();
    if now.kind == JobKind::Close && now.desired_state == JobState::Recording {
        now.desired_state = JobState::Stopped;
    }
    for order in job::orders(&now) {
        // The receiver is alive: the driver takes it next.
        let _ = results.send(Input::Order(order));
    }
    let (sender, jobs) = mpsc::channel(1);
    tokio::spawn(JobFile::new(cli.job.clone(), job).watch(sender));
    jobs
}

fn attempt(job: &Job) -> u32 {
    u32::try_from(job.attempt).unwrap_or(1)
}

fn media(job: &Job) -> MediaKinds {
    match job.spec.media {
        Media::AudioVideo => MediaKinds::AudioVideo,
        Media::Audio => MediaKinds::Audio,
        Media::Video => MediaKinds::Video,
    }
}

fn config(job: &Job, resume: Option<Resume>) -> Config {
    Config {
        stem: job.stem.clone(),
        attempt: attempt(job),
        media: media(job),
        mode: job::mode(job),
        subscription: job::subscription(&job.spec.subscription),
        segment_seconds: u32::try_from(job.spec.hls.segment_seconds).unwrap_or(15),
        idle_timeout_seconds: job.spec.idle_timeout_seconds,
        max_duration_seconds: Some(job.spec.max_duration_seconds),
        drain_timeout_seconds: job.spec.drain_timeout_seconds,
        idle_counts_publishers: job.spec.channel.profile == ChannelProfile::LiveBroadcasting,
        backup: job.spec.backup_storage.is_some(),
        report_quality: ReportQuality::Sender,
        snapshots: job::snapshots(job),
        resume,
    }
}

/// What is known of this recording.
struct Found {
    manifest: Option<Manifest>,
    /// With how its time goes on.
    intake: Option<(Intake, Timeline)>,
}

fn resume(manifest: Option<Manifest>, intake: Option<&Intake>) -> Option<Resume> {
    if manifest.is_none() && intake.is_none() {
        return None;
    }
    Some(Resume { manifest: manifest.unwrap_or_default(), replay: intake.map(|intake| intake.start.replay.clone()) })
}

/// By the spool or, without one, by storage.
async fn find(job: &Job, folders: &Folders, storage: &Storage, backup: Option<&Storage>) -> Result<Found, InitFailure> {
    let unreadable = |error: &dyn std::fmt::Display| InitFailure::new(Code::RecorderInit, error.to_string());
    let spooled = recovery::read_state(folders, &job.recording_id).map_err(|error| unreadable(&error))?;
    let Some((mut manifest, journalled)) = spooled else {
        return Ok(Found { manifest: of_storage(job, storage, backup).await?, intake: None });
    };
    let intake = Intake::find(&folders.intake()).map_err(|error| unreadable(&error))?.filter(|_| journalled);
    let intake = intake.and_then(|intake| Timeline::behind(&intake).map(|timeline| (intake, timeline)));
    let adopted = match &intake {
        Some(_) => recovery::keep_known(folders, &mut manifest),
        None => recovery::adopt(folders, &mut manifest),
    };
    adopted.map_err(|error| unreadable(&error))?;
    Ok(Found { manifest: Some(manifest), intake })
}

async fn of_storage(job: &Job, storage: &Storage, backup: Option<&Storage>) -> Result<Option<Manifest>, InitFailure> {
    if job.attempt > 1 {
        fence_both(job, storage, backup).await?;
    }
    let stored = stored_manifest(job, storage).await;
    let stored = match backup {
        None => stored?,
        Some(backup) => backup::newer(job, stored, stored_manifest(job, backup).await)?,
    };
    let mut manifest = match stored {
        Some(manifest) => manifest,
        // A first attempt has no predecessor; that of a later one may have stored segments before any manifest.
        None if job.attempt == 1 => return Ok(None),
        None => Manifest::default(),
    };
    let known_lost = manifest.ledger.iter().filter(|entry| entry.lost).map(|entry| entry.name.clone()).collect::<BTreeSet<_>>();
    for entry in manifest.ledger.iter_mut().filter(|entry| !entry.stored && !entry.in_backup && !entry.lost) {
        // It was in a spool that is gone, unless its upload was under way.
        match (patiently(job, || storage.store.fetch(&entry.name)).await, backup) {
            (Ok(Some(Some(found))), _) => (entry.stored, entry.etag) = (true, found.etag),
            (Err(failure), None) => return Err(failure),
            (_, Some(backup)) => match patiently(job, || backup.store.fetch(&entry.name)).await {
                Ok(Some(Some(found))) => (entry.in_backup, entry.etag) = (true, found.etag),
                _ => entry.lost = true,
            },
            (Ok(_), None) => entry.lost = true,
        }
    }
    for entry in manifest.ledger.clone().iter().filter(|entry| entry.lost && !known_lost.contains(&entry.name)) {
        behind::lost(&mut manifest, entry.start, MediaTime(entry.start.0 + entry.duration90k), &entry.playlist);
    }
    behind::enter(job, media(job), &mut manifest, storage, backup).await;
    Ok((manifest != Manifest::default()).then_some(manifest))
}

/// With two storages the one that refuses is left as it is: what is done then is decided by what can be read.
async fn fence_both(job: &Job, storage: &Storage, backup: Option<&Storage>) -> Result<(), InitFailure> {
    for place in std::iter::once(storage).chain(backup) {
        match patiently(job, || fence::fence(place)).await {
            Err(failure) if backup.is_some() && failure.code != Code::Superseded => {
                tracing::warn!(why = failure.message, "an older attempt cannot be shut out of a storage");
            }
            other => drop(other?),
        }
    }
    Ok(())
}

async fn stored_manifest(job: &Job, storage: &Storage) -> Result<Option<Manifest>, InitFailure> {
    let Some(Some(found)) = patiently(job, || storage.store.fetch(&storage.manifest_key)).await? else {
        return Ok(None);
    };
    let unreadable = |error: manifest::ManifestError| InitFailure::new(Code::RecorderInit, error.to_string());
    let head = manifest::parse(&found.body).map_err(unreadable)?;
    let mut chunks = Vec::with_capacity(head.chunks.len());
    for key in &head.chunks {
        match patiently(job, || storage.store.fetch(key)).await? {
            Some(Some(chunk)) => chunks.push(chunk.body),
            _ => return Err(InitFailure::new(Code::RecorderInit, "a ledger chunk that the manifest names is not in storage")),
        }
    }
    head.into_manifest(&chunks).map(Some).map_err(unreadable)
}

/// Writes the manifest under our epoch before anything else: fences an older attempt, and shows that storage takes what we write.
async fn claim(job: &Job, storage: &Arc<Storage>, identity: &Identity, session: &Session) -> Result<Option<String>, InitFailure> {
    // Its whole ledger is in the session: nothing is read from a spool.
    let mut writer = DocumentWriter::new(storage.clone(), PathBuf::new());
    let rendered = manifest::render(identity, session.manifest());
    let since = Instant::now();
    loop {
        let failure = match writer.put_manifest(rendered.clone()).await {
            Ok(()) => return Ok(writer.etags.remove(&storage.manifest_key)),
            Err(StoreError::Superseded) => StoreFailure::Conflict,
            Err(StoreError::Refused(why)) => StoreFailure::Denied(why),
            Err(StoreError::Retryable(why) | StoreError::Gone(why)) => StoreFailure::Retryable(why),
        };
        if !matches!(failure, StoreFailure::Retryable(_)) || (job.attempt > 1 && since.elapsed() > STORAGE_PATIENCE) {
            return Err(failure.into());
        }
        if since.elapsed() > STORAGE_PATIENCE {
            tracing::warn!("storage cannot be reached; recording begins without it");
            return Ok(None);
        }
        tokio::time::sleep(STORAGE_RETRY).await;
    }
}

/// Tries until storage answers. None: it does not, and a first attempt can do without.
async fn patiently<T, F>(job: &Job, mut call: impl FnMut() -> F) -> Result<Option<T>, InitFailure>
where
    F: Future<Output = Result<T, StoreFailure>>,
{
    let since = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return Ok(Some(answer)),
            Err(StoreFailure::Retryable(_)) if since.elapsed() < STORAGE_PATIENCE => {
                tokio::time::sleep(STORAGE_RETRY).await;
            }
            Err(StoreFailure::Retryable(why)) if job.attempt == 1 => {
                tracing::warn!(why, "storage cannot be reached at the start");
                return Ok(None);
            }
            Err(failure) => return Err(failure.into()),
        }
    }
}
