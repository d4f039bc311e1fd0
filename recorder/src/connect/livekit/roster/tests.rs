use super::*;

fn person(sid: &str, identity: &str, tracks: Vec<TrackInfo>) -> proto::ParticipantInfo {
    proto::ParticipantInfo { sid: sid.into(), identity: identity.into(), state: State::Active as i32, tracks, ..Default::default() }
}

fn gone(mut info: proto::ParticipantInfo) -> proto::ParticipantInfo {
    info.state = State::Disconnected as i32;
    info
}

fn camera(sid: &str, mime_type: &str) -> TrackInfo {
    TrackInfo {
        sid: sid.into(),
        mime_type: mime_type.into(),
        r#type: TrackType::Video as i32,
        source: TrackSource::Camera as i32,
        ..Default::default()
    }
}

fn microphone(sid: &str) -> TrackInfo {
    TrackInfo { sid: sid.into(), mime_type: "audio/red".into(), r#type: TrackType::Audio as i32, ..Default::default() }
}

/// A change in a few letters: `+p0 alice`, `-p0`, `+t0 p0 Camera H264`, `-t0 TR_1`, `mute t0`.
fn short(changes: Vec<Change>) -> Vec<String> {
    let one = |change| match change {
        Change::Joined { participant, identity } => format!("+p{} {identity}", participant.0),
        Change::Left { participant } => format!("-p{}", participant.0),
        Change::Published(p) => {
            let flags = format!("{}{}", if p.muted { " muted" } else { "" }, if p.encrypted { " encrypted" } else { "" });
            format!("+t{} p{} {:?} {:?}{flags}", p.track.0, p.participant.0, p.source, p.codec)
        }
        Change::Unpublished { track, sid } => format!("-t{} {sid}", track.0),
        Change::Muted { track } => format!("mute t{}", track.0),
        Change::Unmuted { track } => format!("unmute t{}", track.0),
    };
    changes.into_iter().map(one).collect()
}

#[test]
fn people_come_publish_mute_and_leave() {
    let mut roster = Roster::default();
    let alice = person("PA_1", "alice", vec![camera("TR_1", "video/H264"), microphone("TR_2")]);
    assert_eq!(short(roster.replace(std::slice::from_ref(&alice))), ["+p0 alice", "+t0 p0 Camera H264", "+t1 p0 Microphone Opus"]);
    assert!(roster.update(std::slice::from_ref(&alice)).is_empty(), "nothing new");
    let mut muted = alice.clone();
    muted.tracks[0].muted = true;
    assert_eq!(short(roster.update(&[muted])), ["mute t0"]);
    assert_eq!(short(roster.update(std::slice::from_ref(&alice))), ["unmute t0"]);
    let only_sound = person("PA_1", "alice", vec![microphone("TR_2")]);
    assert_eq!(short(roster.update(&[only_sound])), ["-t0 TR_1"]);
    assert_eq!(short(roster.update(std::slice::from_ref(&alice))), ["+t2 p0 Camera H264"], "published again is a new track");
    assert_eq!(short(roster.update(&[gone(alice)])), ["-t2 TR_1", "-t1 TR_2", "-p0"]);
}

#[test]
fn the_same_identity_keeps_its_number_and_an_old_stay_ends_late() {
    let mut roster = Roster::default();
    let first = person("PA_1", "alice", vec![microphone("TR_1")]);
    let second = person("PA_2", "alice", vec![microphone("TR_2")]);
    roster.replace(&[first.clone(), person("PA_9", "bob", vec![])]);
    assert_eq!(short(roster.update(&[second])), ["-t0 TR_1", "-p0", "+p0 alice", "+t1 p0 Microphone Opus"]);
    assert!(roster.update(&[gone(first)]).is_empty());
}

#[test]
fn after_a_new_join_people_stay_and_tracks_are_new() {
    let mut roster = Roster::default();
    roster.replace(&[person("PA_1", "alice", vec![microphone("TR_1")]), person("PA_2", "bob", vec![])]);
    let changes = roster.replace(&[person("PA_3", "alice", vec![microphone("TR_3")])]);
    assert_eq!(short(changes), ["-p1", "-t0 TR_1", "+t1 p0 Microphone Opus"]);
}

#[test]
fn machines_are_nobody() {
    let mut roster = Roster::default();
    let mut egress = person("PA_1", "EG_1", vec![]);
    egress.kind = Kind::Egress as i32;
    let mut agent = person("PA_2", "agent", vec![microphone("TR_1")]);
    agent.kind = Kind::Agent as i32;
    let mut hidden = person("PA_3", "ghost", vec![]);
    hidden.permission = Some(proto::ParticipantPermission { hidden: true, ..Default::default() });
    assert!(roster.replace(&[egress.clone(), agent, hidden]).is_empty());
    assert!(roster.update(&[gone(egress)]).is_empty());
}

#[test]
fn codecs_sources_and_encryption() {
    let mut roster = Roster::default();
    let mut encrypted = camera("TR_2", "video/VP8");
    encrypted.encryption = proto::encryption::Type::Gcm as i32;
    encrypted.source = TrackSource::ScreenShare as i32;
    encrypted.muted = true;
    let data = TrackInfo { sid: "TR_5".into(), mime_type: "application/x".into(), r#type: TrackType::Data as i32, ..Default::default() };
    let tracks = vec![camera("TR_1", ""), encrypted, data, camera("TR_4", "video/x")];
    let changes = short(roster.replace(&[person("PA_1", "alice", tracks)]));
    assert_eq!(changes, ["+p0 alice", "+t0 p0 ScreenShare Other muted encrypted", "+t1 p0 Camera Other"]);
    let named = person("PA_1", "alice", vec![camera("TR_1", "video/AV1")]);
    assert_eq!(short(roster.update(&[named])), ["-t0 TR_2", "-t1 TR_4", "+t2 p0 Camera Av1"]);
    let changed = person("PA_1", "alice", vec![camera("TR_1", "video/vp9")]);
    assert_eq!(short(roster.update(&[changed])), ["-t2 TR_1", "+t3 p0 Camera Vp9"], "another codec is another track");
}

#[test]
fn a_stale_list_changes_nothing() {
    let mut roster = Roster::default();
    let mut alice = person("PA_1", "alice", vec![microphone("TR_1")]);
    alice.version = 5;
    roster.replace(std::slice::from_ref(&alice));
    alice.version = 4;
    alice.tracks.clear();
    assert!(roster.update(&[alice]).is_empty());
}
