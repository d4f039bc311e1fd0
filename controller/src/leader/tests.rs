use super::decide::{Action, Observed, decide};
use super::*;

const ME: &str = "recording-operator-a";
const OTHER: &str = "recording-operator-b";

fn held_by(holder: Option<&str>, seconds: Option<i32>, version: &str) -> Lease {
    let spec = LeaseSpec { holder_identity: holder.map(str::to_owned), lease_duration_seconds: seconds, ..LeaseSpec::default() };
    let metadata = ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() };
    Lease { metadata, spec: Some(spec) }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lease, age of what was read, do we lead -> what to do.
#[test]
fn what_an_elector_does() {
    use Action::*;
    let lost = |holder: Option<&str>| Lost { holder: holder.map(str::to_owned) };
    let cases = [
        ("none yet", None, 0, false, Create),
        ("deleted under us", None, 0, true, lost(None)),
        ("released", Some(held_by(None, Some(1), "1")), 0, false, Take),
        ("released the way other clients do", Some(held_by(Some(""), Some(1), "1")), 0, false, Take),
        ("released by somebody while we lead", Some(held_by(None, Some(8), "1")), 0, true, lost(None)),
        ("ours", Some(held_by(Some(ME), Some(8), "1")), 900, true, Renew),
        ("ours, late", Some(held_by(Some(ME), Some(8), "1")), 60_000, true, Renew),
        ("ours from before a restart", Some(held_by(Some(ME), Some(8), "1")), 0, false, Take),
        ("another's, fresh", Some(held_by(Some(OTHER), Some(8), "1")), 0, false, Wait(ms(8000))),
        ("another's, not renewed for a while", Some(held_by(Some(OTHER), Some(8), "1")), 7999, false, Wait(ms(1))),
        ("another's, expired", Some(held_by(Some(OTHER), Some(8), "1")), 8000, false, Take),
        ("another's with its own duration", Some(held_by(Some(OTHER), Some(15), "1")), 8000, false, Wait(ms(7000))),
        ("another's without a duration", Some(held_by(Some(OTHER), None, "1")), 3000, false, Wait(ms(5000))),
        ("another's with nonsense", Some(held_by(Some(OTHER), Some(-4), "1")), 0, false, Wait(ms(8000))),
        ("taken from us", Some(held_by(Some(OTHER), Some(8), "1")), 0, true, lost(Some(OTHER))),
        ("taken from us, and expired since", Some(held_by(Some(OTHER), Some(8), "1")), 9000, true, lost(Some(OTHER))),
        ("without a spec", Some(Lease::default()), 0, false, Take),
    ];
    let start = Instant::now();
    for (case, lease, age, leading, expected) in cases {
        let observed = Observed::new(lease, start);
        assert_eq!(decide(&observed, ME, leading, start + ms(age)), expected, "{case}");
    }
}

#[test]
fn a_renewed_lease_begins_to_age_anew_and_one_that_is_only_read_again_does_not() {
    let start = Instant::now();
    let mut observed = Observed::new(Some(held_by(Some(OTHER), Some(8), "1")), start);
    observed.update(Some(held_by(Some(OTHER), Some(8), "1")), start + ms(6000));
    assert_eq!(decide(&observed, ME, false, start + ms(7000)), Action::Wait(ms(1000)));
    observed.update(Some(held_by(Some(OTHER), Some(8), "2")), start + ms(7000));
    assert_eq!(decide(&observed, ME, false, start + ms(8000)), Action::Wait(ms(7000)));
}

/// Who leads stops before anybody else may begin, whatever the answer to a renewal takes.
#[test]
fn a_leader_gives_up_before_its_lease_is_over() {
    const { assert!(RENEW_DEADLINE.as_millis() + TRY.as_millis() < LEASE.as_millis()) };
    const { assert!(RETRY.as_millis() * 2 + TRY.as_millis() <= RENEW_DEADLINE.as_millis(), "at least two tries before it gives up") };
}

#[test]
fn what_is_written_names_the_holder_and_counts_the_changes() {
    let mut old = held_by(Some(OTHER), Some(15), "7");
    old.spec.as_mut().expect("set").lease_transitions = Some(4);
    let taken = held(Some(&old), "lease", ME, Timestamp::UNIX_EPOCH);
    let spec = taken.spec.clone().expect("set");
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds, spec.lease_transitions), (Some(ME), Some(8), Some(5)));
    assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"), "only over the version that was read");
    assert_eq!(spec.acquire_time, spec.renew_time);
    let later = Timestamp::from_second(60).expect("in range");
    let renewed = held(Some(&taken), "lease", ME, later).spec.expect("set");
    assert_eq!((renewed.acquire_time, renewed.lease_transitions), (spec.acquire_time, Some(5)));
    assert_eq!(renewed.renew_time, Some(MicroTime(later)));
    let first = held(None, "lease", ME, later);
    assert_eq!((first.metadata.name.as_deref(), first.metadata.resource_version), (Some("lease"), None));
    assert_eq!(first.spec.and_then(|s| s.lease_transitions), Some(0));
}
