//! Where it is stored.

use super::references::{CaBundle, SecretRef};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Exactly one of `s3` and `volume`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.s3) != has(self.volume)").message("a storage needs exactly one of s3 and volume"))]
pub struct Storage {
    /// A bucket of Amazon S3 or of anything that speaks its protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Storage>,
    /// A PersistentVolumeClaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeStorage>,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.prefix) || !(self.prefix.startsWith('/') || self.prefix.endsWith('/') || self.prefix.split('/').exists(p, p == '' || p == '.' || p == '..'))")
        .message("prefix must be folders joined by /, without a leading or trailing / and without . and .. parts, like acme/standups"),
    validation = Rule::new("has(self.region) || has(self.endpoint)")
        .message("s3 needs a region (Amazon S3) or an endpoint (other servers)"),
    validation = Rule::new("!has(self.tags) || self.tags.all(name, name.size() >= 1 && name.size() <= 128)")
        .message("the name of a tag has 1 to 128 characters")
)]
pub struct S3Storage {
    /// Name of the bucket.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// Region, like eu-west-1. Default: us-east-1 when an endpoint is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9-]+$"))]
    pub region: Option<String>,
    /// Address of an S3-compatible server, like https://minio.example.com:9000, without user, password, query or spaces. Default: Amazon S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"))]
    pub endpoint: Option<String>,
    /// Put the bucket into the path instead of the host name; most S3-compatible servers want true. Default: false.
    #[serde(default)]
    pub force_path_style: bool,
    /// Folder in the bucket, like acme/standups. Default: the bucket's root.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub prefix: Option<String>,
    /// Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and optionally AWS_SESSION_TOKEN; re-read when it changes. Default: workload identity of pod.serviceAccountName.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// Encryption at rest. Default: the bucket's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// Storage class of segments, like STANDARD_IA. Default: the bucket's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Z0-9_]+$"))]
    pub storage_class: Option<String>,
    /// Tags of every object: at most 10, names of at most 128 and values of at most 256 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10, "additionalProperties" = {"type": "string", "maxLength": 256}))]
    pub tags: BTreeMap<String, String>,
    /// Cache-Control of segments. Playlists and the manifest keep no-cache, because they change. Default: max-age=31536000, immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[!-~]([ -~]*[!-~])?$"))]
    pub cache_control: Option<String>,
    /// Certificate authorities to trust for the endpoint, besides the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.kmsKeyID) || self.type == 'KMS'")
    .message("kmsKeyID needs type KMS"))]
pub struct ServerSideEncryption {
    /// AES256: keys of the storage. KMS: keys of a key management service.
    #[serde(rename = "type")]
    pub kind: EncryptionType,
    /// Key for KMS. Default: the account's.
    #[serde(rename = "kmsKeyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptionType {
    AES256,
    KMS,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.subPath) || !(self.subPath.startsWith('/') || self.subPath.split('/').exists(p, p == '' || p == '.' || p == '..'))")
    .message("subPath must be a relative path without empty, . and .. parts, like standups/2026"))]
pub struct VolumeStorage {
    /// Name of the PersistentVolumeClaim; ReadWriteMany, or used from one node.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub claim_name: String,
    /// Folder in the volume. Default: its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub sub_path: Option<String>,
}
