//! Somebody with the edit role in one namespace: works there, and reaches nothing elsewhere.

use crate::world::{FINISH, FPS, START, SYSTEM, World, is_whole, may, runs_with_no_rights};
use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::conditions;
use recording_tests::harness::process::wait_until;

const TENANT: &str = "tenant@example.com";
const RECORDINGS: &str = "recordings.recording-operator.io";

#[test]
fn who_may_edit_one_namespace_reaches_nothing_elsewhere() -> Result<()> {
    let (own, other) = (&World::new("tenant")?, &World::new("neighbour")?);
    own.ns.kubectl(&["create", "rolebinding", "tenant", "--clusterrole=edit", &format!("--user={TENANT}")])?;
    other.ns.kubectl(&["create", "secret", "generic", "theirs", "--from-literal=AWS_ACCESS_KEY_ID=theirs"])?;
    other.record("theirs", 600)?;
    // The control plane adds the chart's roles to its own.
    wait_until("the aggregated role", START, || tenant_may(own, "create", RECORDINGS, own.ns.name()).ok().filter(|may| *may))?;
    rights(own, other)?;
    other.wait("theirs", "condition=Recording", START)?;
    nothing_is_touched(own, other)?;

    let tenant = Tenant(own);
    tenant.apply(own.ns.name(), &own.room("mine", 5)?)?;
    let reaching = own
        .room("reaching", 5)?
        .replace("credentialsSecretRef: {name: bucket}", "credentialsSecretRef: {name: theirs, namespace: neighbour}");
    let refused = tenant.apply(own.ns.name(), &reaching).err().context("a Secret of another namespace can be named")?;
    ensure!(format!("{refused:#}").contains("unknown field \"spec.storage.s3.credentialsSecretRef.namespace\""), "{refused:#}");
    // Whoever does not let kubectl look: the API server drops what the definition does not know.
    tenant.apply_with(own.ns.name(), &reaching, &["--validate=false"])?;
    let missing = || {
        let conditions = own.status("reaching").ok()?.conditions;
        conditions::find(&conditions, conditions::READY).filter(|ready| ready.reason == Code::SecretNotFound.as_str()).cloned()
    };
    let said = wait_until("the status to say that there is no such Secret", START, missing)?;
    ensure!(said.message.contains("theirs"), "{said:?}");
    let pod = own.pod("reaching")?;
    ensure!(pod.metadata.namespace.as_deref() == Some("tenant"), "{:?}", pod.metadata);
    runs_with_no_rights(&own.pod("mine")?)?;
    own.wait("mine", "condition=Complete", FINISH)?;
    own.completed("mine", Code::NoUsers, 1)?;
    is_whole(&own.stored("mine")?, 4 * FPS)?;
    let status = other.status("theirs")?;
    ensure!(conditions::is_true(&status.conditions, conditions::RECORDING) && status.gap_count == Some(0), "{status:?}");
    Ok(())
}

fn tenant_may(world: &World, verb: &str, resource: &str, namespace: &str) -> Result<bool> {
    may(world.cluster, TENANT, &[verb, resource, "-n", namespace])
}

fn rights(own: &World, other: &World) -> Result<()> {
    for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
        ensure!(tenant_may(own, verb, RECORDINGS, own.ns.name())?, "the tenant may not {verb} Recordings of his own");
        for namespace in [other.ns.name(), SYSTEM] {
            for resource in [RECORDINGS, "pods", "secrets", "leases.coordination.k8s.io"] {
                ensure!(!tenant_may(own, verb, resource, namespace)?, "the tenant may {verb} {resource} in {namespace}");
            }
        }
        for resource in
            ["customresourcedefinitions.apiextensions.k8s.io", "nodes", "persistentvolumes", "clusterroles.rbac.authorization.k8s.io"]
        {
            ensure!(!tenant_may(own, verb, resource, own.ns.name())?, "the tenant may {verb} {resource}");
        }
    }
    // The truth is the controller's to write.
    for verb in ["update", "patch"] {
        ensure!(
            !may(own.cluster, TENANT, &[verb, RECORDINGS, "--subresource=status", "-n", own.ns.name()])?,
            "the tenant may {verb} a status"
        );
    }
    Ok(())
}

/// Not by what `can-i` says but by what happens.
fn nothing_is_touched(own: &World, other: &World) -> Result<()> {
    let pod = other.pod("theirs")?.metadata.name.context("a pod's name")?;
    let stop = r#"{"spec":{"desiredState":"Stopped"}}"#;
    let tries: [&[&str]; 6] = [
        &["get", "rec", "theirs", "-o", "yaml"],
        &["delete", "rec", "theirs"],
        &["patch", "rec", "theirs", "--type=merge", "-p", stop],
        &["logs", &pod],
        &["delete", "pod", &pod],
        &["get", "secret", "theirs"],
    ];
    for order in tries {
        let said = own.cluster.kubectl(&[&["-n", other.ns.name(), "--as", TENANT], order].concat());
        let refused = said.err().with_context(|| format!("the tenant did {order:?}"))?;
        ensure!(format!("{refused:#}").contains("Forbidden"), "{refused:#}");
    }
    let refused = Tenant(own).apply(other.ns.name(), &own.room_again("planted", 5)).err().context("a Recording was planted")?;
    ensure!(format!("{refused:#}").contains("Forbidden"), "{refused:#}");
    Ok(())
}

struct Tenant<'a>(&'a World);

impl Tenant<'_> {
    fn apply(&self, namespace: &str, manifest: &str) -> Result<()> {
        self.apply_with(namespace, manifest, &[])
    }

    fn apply_with(&self, namespace: &str, manifest: &str, flags: &[&str]) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("recording.yaml");
        std::fs::write(&file, manifest)?;
        let file = file.display().to_string();
        self.0.cluster.kubectl(&[&["-n", namespace, "--as", TENANT, "apply", "-f", &file], flags].concat()).map(drop)
    }
}
