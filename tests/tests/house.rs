//! The structure of the house: which crate may see which, and what the pure crates must not touch.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        // The members' own manifests are enough; nothing is downloaded for platforms that are not built.
        .no_deps()
        .exec()
        .expect("cargo metadata of this workspace")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

fn members(metadata: &Metadata) -> Vec<&Package> {
    metadata.workspace_packages()
}

#[test]
fn arrows_between_crates_are_exactly_these() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::from([
        ("recording-crds", BTreeSet::from([])),
        ("recording-controller", BTreeSet::from(["recording-crds"])),
        ("recorder-media", BTreeSet::from([])),
        ("recorder-codec", BTreeSet::from([])),
        ("recorder", BTreeSet::from(["recording-crds", "recorder-media", "recorder-codec"])),
        ("recording-fuzz", BTreeSet::from(["recording-controller", "recorder", "recorder-media"])),
        ("recording-tests", BTreeSet::from(["recording-crds", "recording-controller", "recorder-media"])),
    ]);
    let metadata = metadata();
    let names: BTreeSet<&str> = members(&metadata).iter().map(|p| p.name.as_str()).collect();
    let seen: BTreeMap<&str, BTreeSet<&str>> = members(&metadata)
        .iter()
        .map(|package| {
            let arrows = package.dependencies.iter().map(|d| d.name.as_str()).filter(|d| names.contains(d)).collect();
            (package.name.as_str(), arrows)
        })
        .collect();
    assert_eq!(seen, allowed, "an arrow was added or removed: change ARCHITECTURE.md and this table together");
}

#[test]
fn crates_do_not_touch_what_is_not_theirs() {
    let forbidden: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("recording-crds", ["tokio", "hyper", "webrtc", "rtc", "aws-sdk-s3", "reqwest", "ffmpeg-next"].as_slice()),
        ("recording-controller", ["webrtc", "rtc", "aws-sdk-s3", "aws-config", "ffmpeg-next", "opus", "mpeg2ts"].as_slice()),
        ("recorder-media", ["tokio", "rand", "webrtc", "aws-sdk-s3", "ffmpeg-next", "postcard", "serde_json"].as_slice()),
        ("recorder-codec", ["tokio", "webrtc", "aws-sdk-s3", "kube"].as_slice()),
        ("recorder", ["kube", "kube-client", "k8s-openapi"].as_slice()),
    ]);
    let metadata = metadata();
    for package in members(&metadata) {
        let Some(forbidden) = forbidden.get(package.name.as_str()) else { continue };
        let direct: Vec<&str> = package
            .dependencies
            .iter()
            .filter(|d| d.kind == DependencyKind::Normal)
            .map(|d| d.name.as_str())
            .filter(|d| forbidden.contains(d))
            .collect();
        assert!(direct.is_empty(), "{} must not depend on {direct:?}", package.name);
    }
}

/// The media core is told the time and does no I/O (architecture.md section 2).
#[test]
fn media_core_touches_no_clock_disk_network_or_thread() {
    let words = [
        "std::fs",
        "std::net",
        "std::thread",
        "std::time::Instant",
        "std::time::SystemTime",
        "Instant::now",
        "SystemTime::now",
        "HashMap",
        "HashSet",
        "async fn",
        "println!",
        "std::env",
    ];
    let mut files = Vec::new();
    rust_files(&root().join("recorder/media/src"), &mut files);
    assert!(files.len() > 5, "the media core has moved: {files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let code: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for word in words {
            assert!(!code.contains(word), "{} uses {word}", file.display());
        }
    }
}

/// `unsafe` lives in one crate.
#[test]
fn unsafe_code_lives_in_recorder_codec_only() {
    for folder in ["crds/src", "controller/src", "recorder/src", "recorder/media/src"] {
        let mut files = Vec::new();
        rust_files(&root().join(folder), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a source file");
            assert!(!text.contains("unsafe {") && !text.contains("unsafe fn"), "{} has unsafe code", file.display());
        }
    }
}

/// The manifest of each example must be one that a test runs (examples.rs), so that none rots.
#[test]
fn every_example_is_named_in_the_readme_and_run_by_a_test() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let runs = std::fs::read_to_string(root().join("tests/tests/examples.rs")).expect("tests/tests/examples.rs");
    for entry in std::fs::read_dir(root().join("examples")).expect("examples/") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(readme.contains(&name), "README.md does not mention examples/{name}");
        assert!(runs.contains(&name), "tests/tests/examples.rs does not run examples/{name}");
    }
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}
