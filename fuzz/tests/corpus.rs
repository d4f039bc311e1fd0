//! Every input that was once of interest, again: a finding that comes back fails here, without libFuzzer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// All corpora together, so that nobody minds them in the repository.
const MOST_BYTES: u64 = 1 << 20;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = listing.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn replay(name: &str) {
    let target = recording_fuzz::target(name).expect("a target of this name");
    let inputs = entries(&corpus().join(name));
    assert!(!inputs.is_empty(), "{name} has no corpus");
    for path in inputs {
        println!("{}", path.display());
        (target.body)(&std::fs::read(&path).expect("readable"));
    }
    (target.body)(&[]);
}

macro_rules! replayed {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed_and_has_a_corpus_of_bounded_size() {
            let targets: BTreeSet<&str> = recording_fuzz::names().into_iter().collect();
            assert_eq!(targets, BTreeSet::from([$(stringify!($name)),*]));
            let folders = entries(&corpus());
            let names: BTreeSet<_> = folders.iter().filter_map(|folder| folder.file_name()?.to_str()).collect();
            assert_eq!(names, targets, "a corpus without a target, or the other way round");
            let files = folders.iter().flat_map(|folder| entries(folder));
            let bytes: u64 = files.map(|file| std::fs::metadata(file).expect("metadata").len()).sum();
            assert!(bytes <= MOST_BYTES, "{bytes} bytes: minimise with scripts/fuzz.sh --minimise");
        }
    };
}

replayed!(session, depacketizers, rtp, rtcp, signalling, texts, job, manifest, ts_tail, documents, report);
