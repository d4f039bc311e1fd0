use super::*;
use recorder_media::{ParticipantKey, RtpPacket, TrackKey};

fn packet(n: u16) -> Input {
    let packet =
        RtpPacket { ssrc: 7, sequence: n, timestamp: 3000 * u32::from(n), marker: true, payload: vec![n as u8; 100].into(), rotation: 90 };
    Input::Packet { track: TrackKey(3), packet }
}

fn start() -> Start {
    Start::new(WallMicros(5), Replay::default())
}

fn journal(folder: &Path) -> Journal {
    let intake = Intake::find(folder).expect("readable");
    Journal::open(folder.to_owned(), intake.as_ref(), 8 << 20, Arc::default()).expect("a folder")
}

fn text(records: impl Iterator<Item = io::Result<(Tick, Record)>>) -> Vec<String> {
    records.map(|record| format!("{:?}", record.expect("readable"))).collect()
}

#[test]
fn what_the_room_sent_is_read_back_in_order_over_files_and_processes() {
    let folder = tempfile::tempdir().expect("a folder");
    let joined = Input::Joined { participant: ParticipantKey(1), identity: "ann".into(), escaped: "ann".into() };
    let mut first = journal(folder.path());
    first.begin_file(Tick(10), &start()).expect("written");
    first.note(Tick(11), &joined);
    first.note(Tick(12), &packet(1));
    first.begin_file(Tick(20), &start()).expect("written");
    first.note(Tick(21), &packet(2));
    first.flush().expect("written");
    let mut second = journal(folder.path());
    second.begin_file(Tick(30), &start()).expect("written");
    second.note(Tick(30), &Input::Restarted);
    second.flush().expect("written");

    let intake = Intake::find(folder.path()).expect("readable").expect("a journal");
    assert_eq!((intake.began, intake.ended), (Tick(10), Tick(30)));
    let want = [
        (Tick(10), Record::Start(start().into())),
        (Tick(11), Record::Input(joined)),
        (Tick(12), Record::Input(packet(1))),
        (Tick(20), Record::Start(start().into())),
        (Tick(21), Record::Input(packet(2))),
        (Tick(30), Record::Start(start().into())),
        (Tick(30), Record::Input(Input::Restarted)),
    ];
    assert_eq!(text(intake.records()), want.map(|record| format!("{record:?}")).to_vec());
}

#[test]
fn a_torn_or_damaged_record_ends_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = journal(folder.path());
    journal.begin_file(Tick(1), &start()).expect("written");
    let before = fs::metadata(folder.path().join("1")).expect("a file").len() as usize;
    journal.note(Tick(2), &packet(1));
    journal.note(Tick(3), &packet(2));
    journal.flush().expect("written");
    let whole = fs::read(folder.path().join("1")).expect("a file");
    let each = (whole.len() - before) / 2;
    assert_eq!(records(&whole).count(), 3);
    for cut in before..before + each {
        assert_eq!(records(&whole[..cut]).count(), 1, "cut at {cut}");
        let mut damaged = whole.clone();
        damaged[cut] ^= 0x10;
        assert!(records(&damaged).count() <= 2, "damaged at {cut}");
    }
}

#[test]
fn files_that_are_not_needed_are_named_for_removal() {
    let folder = tempfile::tempdir().expect("a folder");
    let used = Arc::new(AtomicU64::new(0));
    let mut journal = Journal::open(folder.path().to_owned(), None, 8 << 20, used.clone()).expect("a folder");
    for second in [1, 2, 3] {
        journal.begin_file(Tick(second * 10), &start()).expect("written");
        journal.note(Tick(second * 10 + 1), &packet(1));
    }
    journal.flush().expect("written");
    let names = || numbers(folder.path()).expect("a folder");
    let of = |numbers: &[u64]| numbers.iter().map(|number| folder.path().join(number.to_string())).collect::<Vec<_>>();
    assert_eq!(journal.forget(Tick(11)), of(&[]), "the record at 11 is needed");
    assert_eq!(journal.forget(Tick(99)), of(&[1, 2]), "the one being written stays");
    let written: u64 = names().iter().map(|number| fs::metadata(folder.path().join(number.to_string())).expect("a file").len()).sum();
    assert_eq!(used.load(Ordering::Relaxed), written);
    assert!(journal.covers(Tick(0)), "what is not needed is not missing");
    assert_eq!(journal.end(Tick(100)), of(&[3]));
    assert!(!journal.covers(Tick(99)) && journal.covers(Tick(100)));
    assert!(!journal.wants_file(Tick(101)), "a disk that refuses is not asked at once");
    journal.begin_file(Tick(100 + FILE_TICKS_US), &start()).expect("written");
    assert_eq!(names().last(), Some(&4), "numbers go on");
}

#[test]
fn another_versions_journal_is_not_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = journal(folder.path());
    journal.begin_file(Tick(1), &Start { version: VERSION + 1, ..start() }).expect("written");
    assert!(Intake::find(folder.path()).expect("readable").is_none());
}

#[test]
fn beyond_its_share_of_the_spool_the_oldest_file_goes_and_is_missed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = Journal::open(folder.path().to_owned(), None, SHARE * 1000, Arc::default()).expect("a folder");
    for second in 1..=3u16 {
        journal.begin_file(Tick(u64::from(second) * 10), &start()).expect("written");
        (0..3).for_each(|n| journal.note(Tick(u64::from(second) * 10 + 1), &packet(n)));
        journal.flush().expect("written");
    }
    assert!(journal.covers(Tick(0)));
    let oldest = folder.path().join("1");
    assert_eq!(journal.shed(), [oldest], "some 1,200 bytes of at most 1,000");
    assert!(!journal.covers(Tick(19)) && journal.covers(Tick(20)));
    assert_eq!(journal.shed(), Vec::<PathBuf>::new());
}

#[test]
fn everything_that_is_journalled_is_read_back_as_it_was() {
    let (participant, track) = (ParticipantKey(1), TrackKey(2));
    let only = recorder_media::Selection::Only(["ann".to_owned()].into());
    let lists = recorder_media::Subscription { audio: only, video: recorder_media::Selection::All };
    let (source, codec) = (recorder_media::Source::ScreenShare, recorder_media::Codec::Av1);
    let report = recorder_media::SenderReport { ssrc: 1, ntp: u64::MAX, rtp: 3 };
    let inputs = [
        Input::Connected,
        Input::Disconnected,
        Input::Joined { participant, identity: "ünï".into(), escaped: "!C3".into() },
        Input::Left { participant },
        Input::Published { track, participant, source, codec, muted: true },
        Input::Unpublished { track },
        Input::Muted { track },
        Input::Unmuted { track },
        packet(7),
        Input::SenderReport { track, report },
        Input::SpoolFull(true),
        Input::Order(recorder_media::Order::Subscription(lists)),
        Input::Restarted,
    ];
    assert!(inputs.iter().all(Input::is_journalled));
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = journal(folder.path());
    journal.begin_file(Tick(1), &start()).expect("written");
    inputs.iter().for_each(|input| journal.note(Tick(2), input));
    journal.flush().expect("written");
    let intake = Intake::find(folder.path()).expect("readable").expect("a journal");
    let read = text(intake.records().skip(1));
    assert_eq!(read, inputs.map(|input| format!("{:?}", (Tick(2), Record::Input(input)))).to_vec());
}
