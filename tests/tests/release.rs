//! `recording-operator release`: what is left when the operator is gone can be deleted, and nothing else is touched.

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use recording_crds::labels;
use recording_tests::harness::binary;
use recording_tests::harness::cluster::api_server::ApiServer;
use recording_tests::harness::process::wait_until;
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
/// Somebody else's finalizer.
const OTHERS: &str = "example.com/backup";

struct Left {
    server: ApiServer,
}

impl Left {
    /// Two namespaces, in each a Recording and a recorder pod that we hold, both also held by somebody else; and a stranger's pod.
    fn start() -> Result<Self> {
        let server = ApiServer::start()?;
        server.apply(&recording_crds::crd::yaml(), &["--server-side"])?;
        server.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
        for namespace in ["team-a", "team-b"] {
            server.kubectl(&["create", "namespace", namespace])?;
            let spec =
                json!({"channel": {"name": "r", "testPattern": {}}, "mode": "Individual", "storage": {"volume": {"claimName": "c"}}});
            let recording = json!({
                "apiVersion": "recording-operator.io/v1alpha1", "kind": "Recording", "spec": spec,
                "metadata": {"name": "r", "namespace": namespace, "finalizers": [labels::FINISH, OTHERS]},
            });
            let ours = json!({labels::MANAGED_BY: labels::MANAGER});
            for object in [recording, pod("recorder", namespace, &ours), pod("stranger", namespace, &json!({}))] {
                server.apply(&object.to_string(), &[])?;
            }
        }
        Ok(Self { server })
    }

    fn release(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary("recording-operator")?);
        Ok(command.arg("release").args(args).env("KUBECONFIG", self.server.kubeconfig()).stdin(Stdio::null()).output()?)
    }

    fn finalizers(&self, object: &str, namespace: &str) -> Result<Vec<String>> {
        let found: Value = serde_json::from_str(&self.server.kubectl(&["get", object, "-n", namespace, "-o", "json"])?)?;
        Ok(serde_json::from_value(found["metadata"]["finalizers"].clone())?)
    }
}

fn pod(name: &str, namespace: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "finalizers": [labels::RESULT, OTHERS]},
        "spec": {"containers": [{"name": "recorder", "image": "none"}], "automountServiceAccountToken": false},
    })
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn only_our_finalizers_go_and_only_where_it_was_said() -> Result<()> {
    let left = Left::start()?;
    let held = vec![labels::FINISH.to_owned(), OTHERS.to_owned()];

    // Not told whose; nobody to ask; only looking.
    ensure!(left.release(&[])?.status.code() == Some(2));
    let unasked = left.release(&["--all"])?;
    ensure!(unasked.status.code() == Some(1) && said(&unasked).contains("--yes"), "{}", said(&unasked));
    let dry = left.release(&["--all", "--dry-run"])?;
    for line in ["recording team-a/r would be released", "pod team-b/recorder would be released"] {
        ensure!(dry.status.success() && said(&dry).contains(line), "{}", said(&dry));
    }
    ensure!(left.finalizers("recording/r", "team-a")? == held, "something was released");

    // One namespace.
    let one = left.release(&["-n", "team-a", "--yes"])?;
    ensure!(one.status.success() && said(&one).lines().count() == 2, "{}", said(&one));
    ensure!(left.finalizers("recording/r", "team-a")? == [OTHERS] && left.finalizers("pod/recorder", "team-a")? == [OTHERS]);
    ensure!(left.finalizers("recording/r", "team-b")? == held, "the other namespace was touched");

    // All of it, one of them on its way out: then it is gone.
    left.server.kubectl(&[
        "patch",
        "recording/r",
        "-n",
        "team-b",
        "--type=merge",
        "-p",
        &json!({"metadata": {"finalizers": [labels::FINISH]}}).to_string(),
    ])?;
    left.server.kubectl(&["delete", "recording/r", "-n", "team-b", "--wait=false"])?;
    left.server.kubectl(&["get", "recording/r", "-n", "team-b"]).context("it hangs")?;
    let all = left.release(&["--all", "--yes"])?;
    ensure!(all.status.success() && said(&all).contains("recording team-b/r released"), "{}", said(&all));
    wait_until("the deleted Recording to go", LIMIT, || {
        left.server.kubectl(&["get", "recording/r", "-n", "team-b"]).is_err().then_some(())
    })?;
    ensure!(left.finalizers("pod/stranger", "team-a")? == [labels::RESULT, OTHERS], "a stranger's pod was touched");
    let again = left.release(&["--all", "--yes"])?;
    ensure!(again.status.success() && said(&again).contains("nothing is held"), "{}", said(&again));
    Ok(())
}

#[test]
fn a_controller_that_runs_is_noticed_and_one_that_has_died_long_ago_is_not() -> Result<()> {
    let left = Left::start()?;
    let renew = |seconds_ago: i64| -> Result<()> {
        let time = Timestamp::from_second(Timestamp::now().as_second() - seconds_ago)?;
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "recording-operator", "namespace": "default", "labels": {labels::MANAGED_BY: labels::MANAGER}},
            "spec": {"holderIdentity": "alive", "leaseDurationSeconds": 8, "renewTime": format!("{time:.6}")},
        });
        left.server.apply(&lease.to_string(), &[]).map(drop)
    };
    renew(1)?;
    let refused = left.release(&["--all", "--yes"])?;
    ensure!(
        refused.status.code() == Some(1) && said(&refused).contains("alive holds the Lease default/recording-operator"),
        "{}",
        said(&refused)
    );
    ensure!(left.finalizers("recording/r", "team-a")?.len() == 2, "something was released");
    ensure!(left.release(&["-n", "team-a", "--yes", "--while-running"])?.status.success());
    renew(120)?;
    let done = left.release(&["--all", "--yes"])?;
    ensure!(done.status.success(), "{}", said(&done));
    ensure!(left.finalizers("recording/r", "team-b")? == [OTHERS]);
    Ok(())
}
