//! What every store must do, and the stores that are asked.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::*;

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// `folder`: where its objects lie as files.
async fn conforms(store: &dyn Store, folder: &Path) {
    segments_are_written_once(store).await;
    documents_are_conditional(store).await;
    what_is_removed_is_gone_and_may_come_again(store).await;
    what_is_there_is_listed_in_order(store, folder).await;
}

/// More than a page of it; put there as files, which both kinds of store take for objects.
async fn what_is_there_is_listed_in_order(store: &dyn Store, folder: &Path) {
    let names: Vec<String> = (0..LIST_PAGE + 3).map(|n| format!("many__{n:05}.ts")).collect();
    let others = ["many.json", "many_a.ts", "nany__1.ts"];
    let files: Vec<PathBuf> = names.iter().map(String::as_str).chain(others).map(|name| folder.join(name)).collect();
    files.iter().for_each(|file| std::fs::write(file, b"x").expect("written"));
    let (mut listed, mut pages): (Vec<String>, usize) = (vec![], 0);
    loop {
        let page = store.list_after("many__", listed.last().map_or("", String::as_str)).await.expect("listed");
        if page.is_empty() {
            break;
        }
        (pages, listed) = (pages + 1, [listed, page].concat());
    }
    assert_eq!((listed, pages), (names, 2));
    assert_eq!(store.list_after("many__", "many__01001.ts").await, Ok(vec!["many__01002.ts".to_owned()]));
    assert_eq!(store.list_after("many__", "many__x").await, Ok(vec![]), "behind the last");
    assert_eq!(store.list_after("none", "").await, Ok(vec![]));
    files.iter().for_each(|file| std::fs::remove_file(file).expect("removed"));
}

async fn what_is_removed_is_gone_and_may_come_again(store: &dyn Store) {
    let document = Document { key: "gone.json".into(), body: "one".into(), kind: DocumentKind::Manifest };
    store.put_document(&document, &Condition::Absent).await.expect("stored");
    assert_eq!(store.remove("gone.json").await, Ok(()));
    assert_eq!(store.fetch("gone.json").await, Ok(None));
    assert_eq!(store.remove("gone.json").await, Ok(()), "what is not there is removed");
    store.put_document(&document, &Condition::Absent).await.expect("stored again");
    assert_eq!(store.remove("gone.json").await, Ok(()));
}

async fn segments_are_written_once(store: &dyn Store) {
    let disk = tempfile::tempdir().expect("a folder");
    let path = disk.path().join("a.ts");
    let content = vec![0x47; 300_000];
    std::fs::write(&path, &content).expect("written");
    let sha256 = hex(&Sha256::digest(&content));
    let segment = Segment { key: "a b!20_1.ts", path: &path, sha256: &sha256, ledger: r#"{"n":1}"# };
    let etag = store.put_segment(segment).await.expect("stored");
    assert!(!etag.is_empty());
    assert_eq!(store.put_segment(segment).await, Ok(etag.clone()), "our own retry is success");
    let found = store.fetch(segment.key).await.expect("read").expect("there");
    assert_eq!((found.body.as_ref(), &found.etag), (content.as_slice(), &etag));
    let described = store.describe(segment.key).await.expect("looked at").expect("there");
    assert_eq!((described.bytes, &described.etag), (300_000, &etag));
    assert!(described.ledger.is_none_or(|line| line == segment.ledger), "where it can be kept it is");
    assert_eq!(store.describe("nowhere.ts").await, Ok(None));

    std::fs::write(&path, b"other").expect("written");
    let other = hex(&Sha256::digest(b"other"));
    let failure = store.put_segment(Segment { sha256: &other, ..segment }).await;
    assert_eq!(failure, Err(StoreFailure::Conflict));
    assert_eq!(store.fetch(segment.key).await.expect("read").expect("there").body.len(), 300_000, "nothing was overwritten");

    let damaged = store.put_segment(Segment { key: "damaged.ts", sha256: &sha256, ..segment }).await;
    assert!(damaged.is_err(), "a file that differs from its checksum is not stored");
    assert_eq!(store.fetch("damaged.ts").await, Ok(None));
}

async fn documents_are_conditional(store: &dyn Store) {
    let document = |body: &'static str| Document { key: "p.m3u8".into(), body: body.into(), kind: DocumentKind::Playlist };
    assert_eq!(store.fetch("p.m3u8").await, Ok(None));
    let stale = Condition::Matches("\"0123456789abcdef0123456789abcdef\"".into());
    assert!(store.put_document(&document("zero"), &stale).await.is_err(), "nothing there to match");
    let first = store.put_document(&document("one"), &Condition::Absent).await.expect("stored");
    assert_eq!(store.put_document(&document("one"), &Condition::Absent).await, Ok(first.clone()), "our own retry");
    assert_eq!(store.put_document(&document("two"), &Condition::Absent).await, Err(StoreFailure::Conflict));
    let second = store.put_document(&document("two"), &Condition::Matches(first.clone())).await.expect("stored");
    assert_ne!(first, second);
    assert_eq!(store.put_document(&document("three"), &Condition::Matches(first)).await, Err(StoreFailure::Conflict));
    let found = store.fetch("p.m3u8").await.expect("read").expect("there");
    assert_eq!((found.body.as_ref(), found.etag), (b"two".as_slice(), second));
}

#[tokio::test]
async fn a_volume_conforms_and_leaves_no_temporary_file() {
    let disk = tempfile::tempdir().expect("a folder");
    let store = volume::VolumeStore::open(disk.path(), "stand/ups").expect("opened");
    conforms(&store, &disk.path().join("stand/ups")).await;
    let described = store.describe("a b!20_1.ts").await.expect("answered").expect("there");
    let probe = rustix::fs::setxattr(disk.path(), "user.probe", b"1", rustix::fs::XattrFlags::empty());
    assert_eq!(described.ledger.as_deref(), probe.ok().map(|()| r#"{"n":1}"#), "kept where the file system has attributes");
    let mut names: Vec<String> = std::fs::read_dir(disk.path().join("stand/ups"))
        .expect("there")
        .map(|file| file.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["a b!20_1.ts", "p.m3u8"]);
}

#[test]
fn a_volume_that_is_not_there_is_the_specs_mistake() {
    let disk = tempfile::tempdir().expect("a folder");
    let missing = volume::VolumeStore::open(&disk.path().join("missing"), "");
    assert!(matches!(missing, Err(StoreFailure::Invalid(_))));
}

struct S3Server {
    process: Child,
    port: u16,
    disk: tempfile::TempDir,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// None, with a printed reason, where it is not built; under CI that is a failure.
fn versitygw() -> Option<PathBuf> {
    let executable = std::env::current_exe().expect("a test has one");
    let path = executable.ancestors().map(|folder| folder.join("tools/bin/versitygw")).find(|path| path.exists());
    if path.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "versitygw is missing under CI: make tools");
        eprintln!("skipped: versitygw is not built: make tools");
    }
    path
}

async fn s3_server() -> Option<S3Server> {
    let program = versitygw()?;
    let disk = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(disk.path().join("data/recordings")).expect("a bucket");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let process = Command::new(program)
        .args(["--port", &format!("127.0.0.1:{port}"), "--access", "access", "--secret", "secret-of-the-test", "posix"])
        .arg(disk.path().join("data"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let server = S3Server { process, port, disk };
    let since = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(since.elapsed() < START_TIMEOUT, "versitygw does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Some(server)
}

fn credentials(folder: &Path, secret: &str) -> PathBuf {
    let folder = folder.join("credentials");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("AWS_ACCESS_KEY_ID"), "access\n").expect("written");
    std::fs::write(folder.join("AWS_SECRET_ACCESS_KEY"), secret).expect("written");
    folder
}

fn options(server: &S3Server, bucket: &str) -> s3::S3Options {
    s3::S3Options {
        bucket: bucket.into(),
        endpoint: Some(format!("http://127.0.0.1:{}", server.port)),
        force_path_style: true,
        prefix: "/acme/standups/".into(),
        credentials: Some(credentials(server.disk.path(), "secret-of-the-test")),
        tags: vec![("team".into(), "a b".into())],
        ..s3::S3Options::default()
    }
}

#[tokio::test]
async fn s3_conforms_and_says_what_is_wrong() {
    let Some(server) = s3_server().await else { return };
    let store = s3::S3Store::open(options(&server, "recordings")).await.expect("opened");
    conforms(&store, &server.disk.path().join("data/recordings/acme/standups")).await;
    let described = store.describe("a b!20_1.ts").await.expect("answered").expect("there");
    assert_eq!(described.ledger.as_deref(), Some(r#"{"n":1}"#));
    assert!(server.disk.path().join("data/recordings/acme/standups/p.m3u8").exists(), "below the prefix");

    let no_bucket = s3::S3Store::open(options(&server, "missing")).await.expect("opened");
    let failure = no_bucket.fetch("p.m3u8").await;
    assert!(matches!(&failure, Err(StoreFailure::Invalid(why)) if why.contains("NoSuchBucket")), "{failure:?}");

    let wrong =
        s3::S3Options { credentials: Some(credentials(&server.disk.path().join("other"), "wrong")), ..options(&server, "recordings") };
    let failure = s3::S3Store::open(wrong).await.expect("opened").fetch("p.m3u8").await;
    assert!(matches!(&failure, Err(StoreFailure::Denied(why)) if !why.contains("secret-of-the-test")), "{failure:?}");

    let gone = options(&server, "recordings");
    drop(server);
    std::fs::create_dir_all(gone.credentials.as_ref().expect("set")).expect("a folder");
    credentials(gone.credentials.as_ref().and_then(|folder| folder.parent()).expect("a parent"), "x");
    let failure = s3::S3Store::open(gone).await.expect("opened").fetch("p.m3u8").await;
    assert!(matches!(&failure, Err(StoreFailure::Retryable(_))), "{failure:?}");
}

#[tokio::test]
async fn a_missing_key_of_the_secret_is_named() {
    let disk = tempfile::tempdir().expect("a folder");
    let options = s3::S3Options {
        bucket: "b".into(),
        endpoint: Some("http://127.0.0.1:9".into()),
        force_path_style: true,
        credentials: Some(disk.path().to_owned()),
        ..s3::S3Options::default()
    };
    let failure = s3::S3Store::open(options).await.expect("opened").fetch("x").await;
    assert!(matches!(&failure, Err(StoreFailure::Denied(why)) if why.contains("AWS_ACCESS_KEY_ID")), "{failure:?}");
}
