//! How the recorder proves that it may join.

use super::references::{KeyRef, SecretRef};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Exactly one of `secretKeyRef` and `apiKeySecretRef`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.apiKeySecretRef)")
    .message("spec.token needs exactly one of secretKeyRef and apiKeySecretRef"))]
pub struct Token {
    /// A ready-made token; re-read when the Secret changes. Its subject is the recorder's identity, uid is not used then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// LiveKit API key: keys LIVEKIT_API_KEY and LIVEKIT_API_SECRET. The recorder mints a hidden, subscribe-only token and renews it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretRef>,
}
