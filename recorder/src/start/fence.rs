//! Shuts an older attempt out before what it has stored is read: it may be alive, on a node that is cut off from the cluster and not from
//! storage.
//!
//! ```text
//! manifest + "fencedBy" ──> each open playlist + "# attempt N" ──> read the manifest, list what lies behind it (start.rs)
//! ```
//!
//! The older attempt writes under the condition that nobody else has (If-Match). From here on that fails, it looks into the manifest, and
//! ends. So nothing is named behind what we read, and no playlist ever loses a segment that it named. A playlist that it begins meanwhile
//! is none of these; it asks for the manifest before the first text of one.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use recorder_media::attempt_line;

use crate::manifest;
use crate::store::{Condition, Document, DocumentKind, Fetched, StoreFailure};
use crate::uploader::{END_OF_PLAYLIST, Storage};

/// The other one writes a playlist every few seconds at most; it has answered the question who is newest long before.
const TRIES: u32 = 20;
/// Playlists at once.
const AT_ONCE: usize = 8;

/// # Errors
/// When storage cannot be read or written; `Conflict`: a newer attempt has done the same to us.
pub(super) async fn fence(storage: &Storage) -> Result<(), StoreFailure> {
    let mut open = Vec::new();
    rewrite(storage, &storage.manifest_key, DocumentKind::Manifest, |found| {
        let Ok(head) = manifest::parse(found) else { return Ok(None) };
        if head.newest() > storage.attempt {
            return Err(StoreFailure::Conflict);
        }
        open = head.open_playlists().map(str::to_owned).collect();
        let ours = head.newest() == storage.attempt;
        Ok(if ours { None } else { head.fenced(storage.attempt).ok().map(Bytes::from) })
    })
    .await?;
    let line = attempt_line(storage.attempt);
    let playlists = stream::iter(open).map(|name| {
        let line = line.as_str();
        async move {
            rewrite(storage, &name, DocumentKind::Playlist, |found| {
                let is_done = found.ends_with(END_OF_PLAYLIST) || found.ends_with(line.as_bytes());
                Ok((!is_done).then(|| [found, line.as_bytes()].concat().into()))
            })
            .await
        }
    });
    playlists.buffer_unordered(AT_ONCE).try_collect::<()>().await
}

/// Puts another text over what is there, if there is anything; None: it may stay.
async fn rewrite(
    storage: &Storage,
    key: &str,
    kind: DocumentKind,
    mut other: impl FnMut(&[u8]) -> Result<Option<Bytes>, StoreFailure>,
) -> Result<(), StoreFailure> {
    for _ in 0..TRIES {
        let Some(Fetched { body, etag }) = storage.store.fetch(key).await? else { return Ok(()) };
        let Some(body) = other(&body)? else { return Ok(()) };
        match storage.store.put_document(&Document { key: key.to_owned(), body, kind }, &Condition::Matches(etag)).await {
            // The other one was faster.
            Err(StoreFailure::Conflict) => {}
            done => return done.map(drop),
        }
    }
    Err(StoreFailure::Retryable("an older attempt writes the same object all the time".into()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use recorder_media::{Manifest, MediaKinds, PlaylistRecord, StoreError};

    use super::*;
    use crate::manifest::Identity;
    use crate::store::volume::VolumeStore;
    use crate::uploader::DocumentWriter;

    const MANIFEST: &str = "0f8c_daily.json";
    const OPEN: &str = "0f8c_daily__uid_s_ann__uid_e_av.m3u8";
    const ENDED: &str = "0f8c_daily__uid_s_bob__uid_e_av.m3u8";

    fn identity() -> Identity {
        Identity { recording_id: "0f8c".into(), stem: "0f8c_daily".into(), channel: "daily".into(), app_id: None }
    }

    fn playlist(key: &str, text: &str) -> Document {
        Document { key: key.to_owned(), body: text.to_owned().into(), kind: DocumentKind::Playlist }
    }

    /// The first attempt at work: a manifest, a playlist that goes on, one that has ended.
    async fn first(folder: &std::path::Path) -> (DocumentWriter, Manifest) {
        let record = |name: &str, ended| PlaylistRecord {
            name: name.into(),
            ended,
            ..PlaylistRecord::begin(String::new(), String::new(), MediaKinds::AudioVideo)
        };
        let playlists = vec![record(OPEN, false), record(ENDED, true)];
        let manifest = Manifest { epoch: 1, playlists, ..Manifest::default() };
        let mut writer = DocumentWriter::new(Arc::new(at(folder, 1)), PathBuf::new());
        writer.put_manifest(manifest::render(&identity(), &manifest)).await.expect("stored");
        writer.put(playlist(OPEN, "one\n")).await.expect("stored");
        writer.put(playlist(ENDED, "all\n#EXT-X-ENDLIST\n")).await.expect("stored");
        (writer, manifest)
    }

    fn at(folder: &std::path::Path, attempt: u32) -> Storage {
        let store = Box::new(VolumeStore::open(folder, "").expect("a folder"));
        Storage { store, manifest_key: MANIFEST.into(), attempt, primary: None }
    }

    #[tokio::test]
    async fn an_older_attempt_that_is_alive_writes_nothing_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut older, manifest) = first(folder.path()).await;
        assert_eq!(fence(&at(folder.path(), 2)).await, Ok(()));
        let text = |key: &str| std::fs::read_to_string(folder.path().join(key)).expect("an object");
        assert_eq!(older.put(playlist(OPEN, "one\ntwo\n")).await, Err(StoreError::Superseded));
        assert_eq!(older.put_manifest(manifest::render(&identity(), &manifest)).await, Err(StoreError::Superseded));
        assert_eq!(older.put(playlist("0f8c_daily__uid_s_eve__uid_e_av.m3u8", "new\n")).await, Err(StoreError::Superseded));
        assert_eq!((text(OPEN).as_str(), text(ENDED).as_str()), ("one\n# attempt 2\n", "all\n#EXT-X-ENDLIST\n"));
        let head = manifest::parse(text(MANIFEST).as_bytes()).expect("a manifest");
        assert_eq!((head.epoch, head.newest()), (1, 2), "what it says is still the first attempt's");
    }

    #[tokio::test]
    async fn it_can_be_done_again_and_not_by_an_older_one() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(fence(&at(folder.path(), 2)).await, Ok(()), "there is nothing");
        first(folder.path()).await;
        for attempt in [2, 2, 3] {
            assert_eq!(fence(&at(folder.path(), attempt)).await, Ok(()));
        }
        assert_eq!(std::fs::read_to_string(folder.path().join(OPEN)).expect("a playlist"), "one\n# attempt 2\n# attempt 3\n");
        assert_eq!(fence(&at(folder.path(), 2)).await, Err(StoreFailure::Conflict));
    }

    /// The text of the second attempt is never that of the first, even when it names the same.
    #[tokio::test]
    async fn what_the_second_attempt_claims_goes_on_from_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut older, _) = first(folder.path()).await;
        fence(&at(folder.path(), 2)).await.expect("fenced");
        let mut newer = DocumentWriter::new(Arc::new(at(folder.path(), 2)), PathBuf::new());
        newer.put_manifest(manifest::render(&identity(), &Manifest { epoch: 2, ..Manifest::default() })).await.expect("claimed");
        newer.put(playlist(OPEN, "one\n# attempt 2\n")).await.expect("stored");
        assert_eq!(older.put(playlist(OPEN, "one\ntwo\n")).await, Err(StoreError::Superseded));
        newer.put(playlist(OPEN, "one\n# attempt 2\nthree\n")).await.expect("stored");
        newer.put(playlist(ENDED, "all\n# attempt 2\n")).await.expect("stored");
        assert_eq!(std::fs::read_to_string(folder.path().join(ENDED)).expect("a playlist"), "all\n#EXT-X-ENDLIST\n");
    }
}
