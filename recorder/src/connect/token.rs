//! Access tokens of LiveKit: JSON Web Tokens, HS256 (RFC 7519), ready-made or minted here. None is ever printed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Clocks of recorder and SFU may differ by this.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Validity of a minted token. The SFU refreshes it while connected, and every join mints a new one.
const VALIDITY: Duration = Duration::from_secs(6 * 3600);

/// What it takes to mint a token.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) api_key: String,
    pub(crate) api_secret: String,
    pub(crate) room: String,
    pub(crate) identity: String,
}

/// A token for a hidden recorder that only subscribes. (`recorder` also overrides publishers' track permissions.)
fn mint(grant: &Grant, now: Duration) -> String {
    let claims = serde_json::json!({
        "iss": grant.api_key,
        "sub": grant.identity,
        "name": grant.identity,
        "nbf": now.saturating_sub(CLOCK_SKEW).as_secs(),
        "exp": (now + VALIDITY).as_secs(),
        "video": {
            "roomJoin": true,
            "room": grant.room,
            "hidden": true,
            "recorder": true,
            "canSubscribe": true,
            "canPublish": false,
            "canPublishData": false,
        },
    });
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, grant.api_secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// `exp` of a token, seconds since the Unix epoch; the signature is the SFU's business.
pub(crate) fn expiry(token: &str) -> Option<u64> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<serde_json::Value>(&claims).ok()?.get("exp")?.as_u64()
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn is_expired(token: &str) -> bool {
    expiry(token).is_some_and(|expiry| expiry <= unix_now().as_secs())
}

/// Where the token for the next connection comes from.
pub(crate) struct Credentials {
    source: Source,
    /// The SFU's own, newer one.
    refreshed: Mutex<Option<String>>,
}

enum Source {
    Ready(Mutex<String>),
    Minted(Grant),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self.source, Source::Ready(_)) { "Credentials(ready-made)" } else { "Credentials(minted)" })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Credentials {
    pub(crate) fn ready(token: String) -> Self {
        Self { source: Source::Ready(Mutex::new(token)), refreshed: Mutex::default() }
    }

    pub(crate) fn minted(grant: Grant) -> Self {
        Self { source: Source::Minted(grant), refreshed: Mutex::default() }
    }

    /// For a new membership.
    pub(crate) fn for_join(&self) -> String {
        match &self.source {
            Source::Minted(grant) => mint(grant, unix_now()),
            Source::Ready(token) => {
                let token = lock(token).clone();
                let refreshed = lock(&self.refreshed).clone();
                refreshed.filter(|refreshed| expiry(refreshed) > expiry(&token)).unwrap_or(token)
            }
        }
    }

    /// For going on with a membership.
    pub(crate) fn for_resume(&self) -> String {
        let refreshed = lock(&self.refreshed).clone();
        refreshed.unwrap_or_else(|| self.for_join())
    }

    pub(crate) fn refresh(&self, token: String) {
        *lock(&self.refreshed) = Some(token);
    }

    /// The Secret has changed: what came of the old token is worth nothing any more.
    pub(crate) fn replace(&self, new: String) {
        if let Source::Ready(token) = &self.source {
            *lock(token) = new;
            *lock(&self.refreshed) = None;
        }
    }

    /// After a refusal: true when there was a refreshed token, so that the original is worth a try.
    pub(crate) fn forget_refreshed(&self) -> bool {
        lock(&self.refreshed).take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant { api_key: "key".into(), api_secret: "a secret".into(), room: "daily".into(), identity: "recorder-42-0f8c2a3b".into() }
    }

    #[test]
    fn a_minted_token_holds_what_a_hidden_recorder_needs_and_no_more() {
        let token = mint(&grant(), Duration::from_secs(1_000_000));
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[0]).expect("base64"), br#"{"alg":"HS256","typ":"JWT"}"#);
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).expect("base64")).expect("JSON");
        assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("key"), Some("recorder-42-0f8c2a3b")));
        assert_eq!((claims["nbf"].as_u64(), claims["exp"].as_u64()), (Some(999_940), Some(1_021_600)));
        let video = serde_json::json!({"roomJoin": true, "room": "daily", "hidden": true, "recorder": true,
            "canSubscribe": true, "canPublish": false, "canPublishData": false});
        assert_eq!(claims["video"], video);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"a secret");
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64");
        assert!(ring::hmac::verify(&key, format!("{}.{}", parts[0], parts[1]).as_bytes(), &signature).is_ok());
        assert_eq!(expiry(&token), Some(1_021_600));
        assert!(is_expired(&token) && !is_expired(&Credentials::minted(grant()).for_join()) && !is_expired("no token"));
    }

    #[test]
    fn a_refreshed_token_is_used_until_refused_or_replaced() {
        let (old, new) = (mint(&grant(), Duration::from_secs(1000)), mint(&grant(), Duration::from_secs(2000)));
        let credentials = Credentials::ready(old.clone());
        assert_eq!((credentials.for_join(), credentials.for_resume()), (old.clone(), old.clone()));
        credentials.refresh(new.clone());
        assert_eq!((credentials.for_join(), credentials.for_resume()), (new.clone(), new));
        assert!(credentials.forget_refreshed() && !credentials.forget_refreshed());
        assert_eq!(credentials.for_join(), old);
        credentials.refresh(old);
        credentials.replace("another".into());
        assert_eq!(credentials.for_resume(), "another");
        assert!(!format!("{credentials:?}").contains("another"));
    }
}
