//! Access tokens of LiveKit: JSON Web Tokens, HS256 (RFC 7519), ready-made or minted here. None is ever printed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;

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

/// What a channel's Secret holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum ChannelSecret {
    Token(String),
    ApiKey { key: String, secret: String },
}

impl std::fmt::Debug for ChannelSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, ChannelSecret::Token(_)) { "ChannelSecret(token)" } else { "ChannelSecret(API key)" })
    }
}

/// Where the token for the next connection comes from.
pub(crate) struct Credentials {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    source: Source,
    /// The SFU's own, newer one.
    refreshed: Option<String>,
    /// The Secret has changed since: what it holds now comes first.
    renewed: bool,
}

enum Source {
    Ready(String),
    Minted(Grant),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self.state().source, Source::Ready(_)) { "Credentials(ready-made)" } else { "Credentials(minted)" })
    }
}

impl Credentials {
    pub(crate) fn ready(token: String) -> Self {
        Self::of(Source::Ready(token))
    }

    pub(crate) fn minted(grant: Grant) -> Self {
        Self::of(Source::Minted(grant))
    }

    fn of(source: Source) -> Self {
        Self { state: Mutex::new(State { source, refreshed: None, renewed: false }), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tokens to try, in this order, for going on with a membership or for a new one.
    pub(crate) fn candidates(&self, resuming: bool) -> Vec<String> {
        let state = self.state();
        let own = match &state.source {
            Source::Minted(grant) => mint(grant, unix_now()),
            Source::Ready(token) => token.clone(),
        };
        let Some(refreshed) = state.refreshed.clone().filter(|refreshed| *refreshed != own) else { return vec![own] };
        let minted = matches!(state.source, Source::Minted(_));
        // The one that lives longer; without an end it lives for ever.
        let longer = expiry(&refreshed).unwrap_or(u64::MAX) > expiry(&own).unwrap_or(u64::MAX);
        let refreshed_first = resuming || (!minted && !state.renewed && longer);
        if refreshed_first { vec![refreshed, own] } else { vec![own, refreshed] }
    }

    pub(crate) fn refresh(&self, token: String) {
        let mut state = self.state();
        (state.refreshed, state.renewed) = (Some(token), false);
    }

    /// The Secret has changed. The SFU's own token lives on beside it: whoever writes a wrong Secret does not end a recording by it.
    pub(crate) fn replace(&self, secret: ChannelSecret) {
        let mut state = self.state();
        match (&mut state.source, secret) {
            (Source::Ready(token), ChannelSecret::Token(new)) => *token = new,
            (Source::Minted(grant), ChannelSecret::ApiKey { key, secret }) => (grant.api_key, grant.api_secret) = (key, secret),
            // A job's Secrets do not change their kind.
            _ => return,
        }
        state.renewed = true;
        drop(state);
        self.changed.notify_one();
    }

    /// The Secret changes, or has changed since the last call. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
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
        assert!(is_expired(&token) && !is_expired(&Credentials::minted(grant()).candidates(false)[0]) && !is_expired("no token"));
    }

    fn valid_for(seconds: u64) -> String {
        mint(&grant(), unix_now() + Duration::from_secs(seconds))
    }

    #[test]
    fn the_servers_newer_token_comes_first_and_the_secrets_stays_in_reserve() {
        let (old, new) = (valid_for(1000), valid_for(2000));
        let credentials = Credentials::ready(old.clone());
        assert_eq!([credentials.candidates(false), credentials.candidates(true)], [const { 0 }; 2].map(|_| vec![old.clone()]));
        credentials.refresh(new.clone());
        assert_eq!(credentials.candidates(true), [new.clone(), old.clone()]);
        assert_eq!(credentials.candidates(false), [new.clone(), old.clone()], "it lives longer");
        let long = Credentials::ready(valid_for(9000));
        long.refresh(new.clone());
        assert_eq!(long.candidates(false)[1], new);
        assert!(!format!("{credentials:?} {:?}", ChannelSecret::Token(new.clone())).contains(&new));
    }

    #[tokio::test]
    async fn a_changed_secret_is_used_at_the_next_join_and_wakes_who_waits_for_it() {
        let credentials = Credentials::ready("first".into());
        let refreshed = valid_for(2000);
        credentials.refresh(refreshed.clone());
        credentials.replace(ChannelSecret::Token("second".into()));
        tokio::time::timeout(Duration::from_secs(5), credentials.changed()).await.expect("woken");
        assert_eq!(credentials.candidates(false), ["second", &refreshed]);
        assert_eq!(credentials.candidates(true), [refreshed.as_str(), "second"], "a membership goes on with its own");
        credentials.replace(ChannelSecret::ApiKey { key: "k".into(), secret: "s".into() });
        assert_eq!(credentials.candidates(false)[0], "second", "a Secret of another kind is none of ours");
    }

    #[test]
    fn every_join_with_an_api_key_mints_a_token_of_its_own_with_the_key_in_force() {
        let credentials = Credentials::minted(grant());
        credentials.refresh(valid_for(90_000));
        credentials.replace(ChannelSecret::ApiKey { key: "another".into(), secret: "secret".into() });
        let minted = credentials.candidates(false)[0].clone();
        let claims = URL_SAFE_NO_PAD.decode(minted.split('.').nth(1).expect("claims")).expect("base64");
        assert!(String::from_utf8_lossy(&claims).contains(r#""iss":"another""#));
        assert!(!is_expired(&minted));
    }
}
