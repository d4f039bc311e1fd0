//! Names: of objects in storage, of pods, of the recorder in a room (media.md section 5).

use sha2::{Digest, Sha256};

/// An escaped part longer than this is cut and given a hash.
pub const ESCAPED_MAX: usize = 80;
/// How much of a cut part is kept.
pub const ESCAPED_KEPT: usize = 60;

/// Bytes outside `A-Za-z0-9.-` become `!HH`: legal in object keys, URIs and file names, where `%` is not safe.
/// Over [`ESCAPED_MAX`] bytes it is cut at [`ESCAPED_KEPT`] and gets `!~` and 16 hex digits of the original's SHA-256.
pub fn escape(name: &str) -> String {
    let escaped: Vec<String> = name.bytes().map(escape_byte).collect();
    let length: usize = escaped.iter().map(String::len).sum();
    if length <= ESCAPED_MAX {
        return escaped.concat();
    }
    let mut kept = String::new();
    for part in escaped {
        if kept.len() + part.len() > ESCAPED_KEPT {
            break;
        }
        kept.push_str(&part);
    }
    format!("{kept}!~{}", &hex(&Sha256::digest(name.as_bytes()))[..16])
}

fn escape_byte(byte: u8) -> String {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => char::from(byte).to_string(),
        _ => format!("!{byte:02X}"),
    }
}

/// What [`escape`] was given; of what was cut only the part that is left, with its hash.
pub fn unescape(escaped: &str) -> String {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((plain, behind)) = rest.split_once('!') {
        bytes.extend(plain.as_bytes());
        let byte = behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(b'!'));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    bytes.extend(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What every object name of a recording begins with: `<recordingID>_<escaped channel>`.
pub fn stem(recording_id: &str, channel: &str) -> String {
    format!("{recording_id}_{}", escape(channel))
}

/// Key of the playlist of mode Composite, in its first volume.
pub fn playlist_key(stem: &str) -> String {
    format!("{stem}.m3u8")
}

/// Key of the manifest object, below the storage prefix.
pub fn manifest_key(stem: &str) -> String {
    format!("{stem}.json")
}

/// 32 hex digits from the object's uid: known at once, the same after any restart.
pub fn recording_id(uid: &str) -> String {
    let digits: String = uid.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
    if digits.len() == 32 { digits } else { hex(&Sha256::digest(uid.as_bytes()))[..32].to_owned() }
}

/// The first eight digits of a recording ID.
pub fn short_id(recording_id: &str) -> &str {
    recording_id.get(..8).unwrap_or(recording_id)
}

/// `<recording>-<uid8>-<attempt>`; a Recording's name has at most 48 characters, so this fits a label's 63.
pub fn pod_name(recording: &str, recording_id: &str, attempt: i32) -> String {
    format!("{recording}-{}-{attempt}", short_id(recording_id))
}

/// The recorder's own number where the spec gives none: 1..=4294967295 from the recording ID.
pub fn derived_uid(recording_id: &str) -> i64 {
    let number = u32::from_str_radix(short_id(recording_id), 16).unwrap_or(1);
    i64::from(number.max(1))
}

/// The recorder's identity where the SFU wants a string; the same for every attempt.
pub fn recorder_identity(uid: Option<i64>, recording_id: &str) -> String {
    format!("recorder-{}-{}", uid.unwrap_or_else(|| derived_uid(recording_id)), short_id(recording_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_escaped_byte_by_byte() {
        assert_eq!(escape("daily-standup.1"), "daily-standup.1");
        assert_eq!(escape("a b/c_d"), "a!20b!2Fc!5Fd");
        assert_eq!(escape("ü"), "!C3!BC");
    }

    #[test]
    fn a_long_name_is_cut_and_hashed() {
        let escaped = escape(&"x".repeat(81));
        assert_eq!(escaped.len(), 60 + 2 + 16);
        assert!(escaped.starts_with(&"x".repeat(60)));
        assert_ne!(escaped, escape(&"x".repeat(82)));
        assert_eq!(escape(&"x".repeat(80)), "x".repeat(80));
    }

    #[test]
    fn ids_and_names_of_pods() {
        let id = recording_id("0f8c2a3b-1111-2222-3333-444455556666");
        assert_eq!(id, "0f8c2a3b111122223333444455556666");
        assert_eq!(pod_name("standup", &id, 2), "standup-0f8c2a3b-2");
        assert_eq!(recorder_identity(Some(42), &id), "recorder-42-0f8c2a3b");
        assert_eq!(recorder_identity(None, &id), format!("recorder-{}-0f8c2a3b", 0x0f8c_2a3b));
        assert_eq!(recording_id("not-a-uid").len(), 32);
    }

    proptest! {
        #[test]
        fn different_names_never_give_the_same_key(a in ".{0,300}", b in ".{0,300}") {
            prop_assert_eq!(a == b, escape(&a) == escape(&b));
        }

        #[test]
        fn what_is_not_cut_can_be_told_again(name in ".{0,6}") {
            prop_assert_eq!(unescape(&escape(&name)), name);
        }

        #[test]
        fn every_key_is_legal_and_short(a in ".{0,300}") {
            let escaped = escape(&a);
            prop_assert!(escaped.len() <= ESCAPED_MAX);
            prop_assert!(escaped.bytes().all(|b| b.is_ascii_alphanumeric() || b".-!~".contains(&b)));
        }
    }
}
