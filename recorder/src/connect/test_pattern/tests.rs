//! The whole way: encoders, RTP, SRTP over loopback sockets, the receiving peer, the queue.

use std::collections::BTreeMap;

use super::*;
use recorder_media::RtpPacket;

const SMALL: TestPattern = TestPattern {
    participants: 2,
    width: 320,
    height: 180,
    frames_per_second: 15,
    duration: Duration::from_secs(3),
    video: true,
    audio: true,
};

/// Everything until the connector ends.
async fn watch(pattern: TestPattern, orders: Vec<(Duration, ConnectOrder)>) -> Vec<Stamped<Event>> {
    let (events, mut received) = mpsc::channel(crate::connect::EVENT_QUEUE);
    let (order, order_queue) = mpsc::channel(8);
    tokio::spawn(Box::new(pattern).run(events, order_queue, CancellationToken::new()));
    tokio::spawn(async move {
        for (wait, next) in orders {
            tokio::time::sleep(wait).await;
            let _ = order.send(next).await;
        }
        std::future::pending::<()>().await;
    });
    let mut all = vec![];
    let everything = async {
        while let Some(event) = received.recv().await {
            all.push(event);
        }
    };
    tokio::time::timeout(pattern.duration + Duration::from_secs(20), everything).await.expect("the test pattern ends");
    all
}

fn media(events: &[Stamped<Event>]) -> impl Iterator<Item = &Input> {
    events.iter().filter_map(|event| match &event.value {
        Event::Media(input) => Some(input),
        _ => None,
    })
}

fn packets(events: &[Stamped<Event>]) -> BTreeMap<TrackKey, Vec<&RtpPacket>> {
    let mut tracks: BTreeMap<TrackKey, Vec<&RtpPacket>> = BTreeMap::new();
    for input in media(events) {
        if let Input::Packet { track, packet } = input {
            tracks.entry(*track).or_default().push(packet);
        }
    }
    tracks
}

fn is_keyframe_start(packet: &RtpPacket) -> bool {
    packet.payload[0] & 31 == 24 && packet.payload[3] & 31 == 7
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_with_picture_and_sound_come_and_go() {
    let events = watch(SMALL, vec![]).await;
    let kinds: Vec<&str> = media(&events)
        .filter_map(|input| match input {
            Input::Connected => Some("connected"),
            Input::Joined { .. } => Some("joined"),
            Input::Published { .. } => Some("published"),
            Input::Unpublished { .. } => Some("unpublished"),
            Input::Left { .. } => Some("left"),
            _ => None,
        })
        .collect();
    let one = ["joined", "published", "published"];
    let gone = ["unpublished", "unpublished", "left"];
    assert_eq!(kinds, [&["connected"][..], &one, &one, &gone, &gone].concat());
    assert!(matches!(events.last().map(|event| &event.value), Some(Event::Ended(EndReason::SourceFinished))));

    let tracks = packets(&events);
    assert_eq!(tracks.keys().map(|key| key.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for (key, packets) in &tracks {
        for pair in packets.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "track {key:?} has a hole");
        }
        let span = packets[packets.len() - 1].timestamp.wrapping_sub(packets[0].timestamp);
        let clock = if key.0 % 2 == 0 { 90_000 } else { 48_000 };
        assert!((clock * 28 / 10..clock * 3).contains(&span), "track {key:?} spans {span} ticks");
        if key.0 % 2 == 0 {
            assert!(is_keyframe_start(packets[0]), "track {key:?} does not begin with a key frame");
            assert_eq!(packets.iter().filter(|packet| packet.marker).count(), 45);
        } else {
            assert_eq!(packets.len(), 149, "20 ms packets that end within 3 s");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sender_reports_of_one_person_tell_of_one_clock() {
    let events = watch(TestPattern { participants: 1, ..SMALL }, vec![]).await;
    let mut reports: BTreeMap<u32, Vec<recorder_media::SenderReport>> = BTreeMap::new();
    for input in media(&events) {
        if let Input::SenderReport { track, report } = input {
            reports.entry(track.0).or_default().push(*report);
        }
    }
    let (video, audio) = (&reports[&0], &reports[&1]);
    assert!(video.len() >= 2 && audio.len() >= 2, "{} and {}", video.len(), audio.len());
    for (video, audio) in video.iter().zip(audio) {
        assert_eq!(video.ntp, audio.ntp);
        assert_eq!(video.rtp.wrapping_sub(sender::FIRST_TIMESTAMP) / 90, audio.rtp.wrapping_sub(sender::FIRST_TIMESTAMP) / 48);
    }
    let ticks = video[1].rtp.wrapping_sub(video[0].rtp);
    let seconds = (video[1].ntp - video[0].ntp) as f64 / 2f64.powi(32);
    assert!((f64::from(ticks) / 90_000.0 - seconds).abs() < 1e-5, "{ticks} ticks in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_frame_comes_when_asked_for() {
    let asked = vec![(Duration::from_millis(1500), ConnectOrder::RequestKeyframe(TrackKey(0)))];
    let events = watch(TestPattern { participants: 1, ..SMALL }, asked).await;
    let keyframes = packets(&events)[&TrackKey(0)].iter().filter(|packet| is_keyframe_start(packet)).count();
    assert_eq!(keyframes, 2, "the first and the one asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_ends_the_connector_without_a_reason() {
    // Long enough for both to have begun on a busy machine.
    let leave = vec![(Duration::from_secs(4), ConnectOrder::Leave)];
    let events = watch(TestPattern { duration: Duration::from_secs(60), audio: false, ..SMALL }, leave).await;
    assert!(events.iter().all(|event| !matches!(event.value, Event::Ended(_))));
    assert_eq!(packets(&events).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_wanted_is_not_sent_and_begins_again_with_a_key_frame() {
    let (track, pause) = (TrackKey(0), Duration::from_millis(800));
    let orders = vec![(pause, ConnectOrder::Subscribe { track, wanted: false }), (pause, ConnectOrder::Subscribe { track, wanted: true })];
    let events = watch(TestPattern { participants: 1, ..SMALL }, orders).await;
    let video = &packets(&events)[&track];
    let ticks = |pair: &[&RtpPacket]| pair[1].timestamp.wrapping_sub(pair[0].timestamp);
    let pauses: Vec<usize> = (1..video.len()).filter(|n| ticks(&video[n - 1..=*n]) > 90_000 / 2).collect();
    let [again] = pauses[..] else { panic!("{pauses:?}") };
    assert!(is_keyframe_start(video[again]));
    assert_eq!(packets(&events)[&TrackKey(1)].len(), 149, "the sound went on");
}
