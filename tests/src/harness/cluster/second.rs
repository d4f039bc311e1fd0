//! A second node beside the first, for what happens when one is lost: a kubelet and a containerd of its own, on the same bridge.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::pki::{Pair, Pki};
use super::{BRIDGE, CGROUP, Cluster, Place, START_TIMEOUT, STATE, import_at, kubelet_config, kubelet_flags, make_cgroups, pause_archive};
use super::{containerd_config, ctr_at, sweep, tag_at, text};
use crate::harness::process::{Process, Spec, run};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 2);
const CERTIFICATE: &str = "kubelet2";

pub const SECOND: &str = "node2";

fn place() -> Place {
    Place { name: SECOND, address: ADDRESS, state: format!("{STATE}/{SECOND}"), cgroup: format!("{CGROUP}/{SECOND}") }
}

fn kubeconfig() -> PathBuf {
    Path::new(STATE).join("kubelet2-client.kubeconfig")
}

/// The certificates; whoever makes them is there only while the cluster starts.
pub(super) fn prepare(pki: &Pki) -> Result<()> {
    pki.server(CERTIFICATE, &[&ADDRESS.to_string()])?;
    Cluster::client_config(pki, "kubelet2-client", &format!("system:node:{SECOND}"), Some("system:nodes")).map(drop)
}

/// Dropped, it is taken down and forgotten by the API server.
#[derive(Debug)]
pub struct SecondNode<'a> {
    cluster: &'a Cluster,
    kubelet: Process,
    _containerd: Process,
}

impl<'a> SecondNode<'a> {
    /// Returns when it is Ready and has the image of this archive, under a second name too.
    pub fn join(cluster: &'a Cluster, archive: &Path, image: &str, name: &str) -> Result<Self> {
        let place = place();
        std::fs::create_dir_all(&place.state)?;
        run("ip", ["address", "add", &format!("{ADDRESS}/24"), "dev", BRIDGE])?;
        make_cgroups(&place.cgroup)?;
        let containerd = start_containerd(cluster, &place)?;
        let kubelet = start_kubelet(cluster, &place)?;
        let mut node = Self { cluster, kubelet, _containerd: containerd };
        import_at(&place.state, &pause_archive()?)?;
        import_at(&place.state, archive)?;
        tag_at(&place.state, image, name)?;
        node.wait_until("True")?;
        Ok(node)
    }

    /// The control plane hears nothing of it any more, while its containers run on and reach whom they reached: a cut between the two.
    pub fn cut_off(&self) -> Result<()> {
        self.kubelet.signal(libc::SIGSTOP)
    }

    /// The end of [`Self::cut_off`].
    pub fn heal(&self) -> Result<()> {
        self.kubelet.signal(libc::SIGCONT)
    }

    /// As when its power goes: kubelet, containerd and every container at once, and nobody says goodbye.
    pub fn power_off(&mut self) -> Result<()> {
        sweep::node(&place().state, &place().cgroup)
    }

    fn wait_until(&mut self, ready: &str) -> Result<()> {
        let status = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let cluster = self.cluster;
        self.kubelet.wait_until("the second node to be Ready", START_TIMEOUT, || {
            cluster.kubectl(&["get", "node", SECOND, "-o", status]).ok().filter(|status| status == ready).map(drop)
        })
    }
}

impl Drop for SecondNode<'_> {
    fn drop(&mut self) {
        // A stopped process does not hear SIGTERM.
        let _ = self.heal();
        if let Err(error) = self.power_off() {
            eprintln!("the second node was not removed completely: {error:#}");
        }
        let _ = self.cluster.kubectl(&["delete", "node", SECOND, "--ignore-not-found"]);
        let _ = run("ip", ["address", "delete", &format!("{ADDRESS}/24"), "dev", BRIDGE]);
        let _ = std::fs::remove_dir_all(place().state);
    }
}

fn start_containerd(cluster: &Cluster, place: &Place) -> Result<Process> {
    let config = Path::new(&place.state).join("containerd.toml");
    std::fs::write(&config, containerd_config(&place.state))?;
    let spec = Spec::logging_to(&cluster.logs, "containerd2", "containerd").args(["--config".to_owned(), text(&config)]);
    let mut process = spec.spawn()?;
    process.wait_until("to answer", START_TIMEOUT, || ctr_at(&place.state, &["version"]).ok().map(drop))?;
    Ok(process)
}

fn start_kubelet(cluster: &Cluster, place: &Place) -> Result<Process> {
    let pki = Path::new(STATE).join("pki");
    let config = Path::new(&place.state).join("kubelet.yaml");
    let authority = Pair::in_folder(&pki, "ca").certificate;
    std::fs::write(&config, kubelet_config(place, &Pair::in_folder(&pki, CERTIFICATE), &authority))?;
    let program = crate::harness::tool("kubelet")?;
    let spec = Spec::logging_to(&cluster.logs, "kubelet2", program).args(kubelet_flags(place, &config, &kubeconfig()));
    spec.spawn().context("failed to start the second kubelet")
}
