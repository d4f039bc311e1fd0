//! Options of the recorder pod.

use k8s_openapi::api::core::v1::{Affinity, LocalObjectReference, ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Options of the recorder pod.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    // Kubernetes' own limit of a name with its prefix: 253 + 1 + 63.
    validation = Rule::new("!has(self.labels) || self.labels.all(name, name.size() <= 317)")
        .message("spec.pod.labels: the name of a label has at most 317 characters"),
    validation = Rule::new("!has(self.annotations) || self.annotations.all(name, name.size() <= 317)")
        .message("spec.pod.annotations: the name of an annotation has at most 317 characters"),
    validation = Rule::new("!has(self.nodeSelector) || self.nodeSelector.all(name, name.size() <= 317)")
        .message("spec.pod.nodeSelector: the name of a label has at most 317 characters")
)]
pub struct PodOptions {
    /// Requests and limits. Default: requests computed from the spec, a memory limit, no CPU limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels a node must have; at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63, "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"}))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints the pod tolerates, besides not-ready and unreachable for 30 s; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Node and pod affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Service account, for workload identity at the storage; its token is mounted only then. Default: default, without a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Secrets for pulling the image; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Labels of the pod, besides the operator's own; at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63, "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"}))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod, besides the operator's own; at most 32, values of at most 2048 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    // With 32 of them there is room left for the job in what Kubernetes takes as a pod's annotations (256 KiB).
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 2048}))]
    pub annotations: BTreeMap<String, String>,
    /// The disk on which media waits for storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<Spool>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Spool {
    /// Size of the spool, like 4Gi. Default: computed from the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Quantity>,
}
