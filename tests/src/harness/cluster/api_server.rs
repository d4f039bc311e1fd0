//! etcd and kube-apiserver alone, on loopback: for what needs no node. No root, no fixed names; any number may run at once.

use super::pki::{Pair, Pki};
use super::{flags, text};
use crate::harness::process::{Process, Spec, run_with_input};
use crate::harness::{ports, tool};
use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// [M] 4 s on 2 idle cores; ten times that for busy ones.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// A running API server with a store of its own. Dropped, both are stopped and forgotten.
#[derive(Debug)]
pub struct ApiServer {
    // In this order they are stopped.
    server: Process,
    _etcd: Process,
    folder: tempfile::TempDir,
}

impl ApiServer {
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let pki = Pki::create(&folder.path().join("pki"))?;
        let (etcd, url) = start_etcd(folder.path())?;
        let port = ports::free_port(Ipv4Addr::LOCALHOST.into())?;
        pki.kubeconfig(
            &kubeconfig(folder.path()),
            &format!("https://127.0.0.1:{port}"),
            &pki.client("admin", "admin", Some("system:masters"))?,
        )?;
        let server = start_server(&pki, &url, port)?;
        let mut started = Self { server, _etcd: etcd, folder };
        started.wait_until_ready()?;
        Ok(started)
    }

    /// Of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig(self.folder.path())
    }

    /// For a client that is nobody but this user, such as `system:serviceaccount:NAMESPACE:NAME`: with the rights that were granted and no more.
    pub fn kubeconfig_as(&self, user: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{}.kubeconfig", user.replace(':', "-")));
        let admin = std::fs::read_to_string(self.kubeconfig())?;
        let groups = "as-groups: [system:serviceaccounts, system:authenticated]";
        let acting = admin.replace("user: {client-certificate", &format!("user: {{as: '{user}', {groups}, client-certificate"));
        ensure!(acting != admin, "the administrator's kubeconfig has no user: {admin}");
        std::fs::write(&path, acting)?;
        Ok(path)
    }

    /// The process of kube-apiserver, for tests that stop it.
    pub fn process(&self) -> &Process {
        &self.server
    }

    /// kubectl or helm as a command that already knows the server.
    pub fn client(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(tool(program)?);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.folder.path());
        Ok(command)
    }

    /// What kubectl prints; a failure carries its error output.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        run_with_input(self.client("kubectl")?.args(args), None)
    }

    /// `kubectl apply` of a manifest given as text, with further flags.
    pub fn apply(&self, manifest: &str, flags: &[&str]) -> Result<String> {
        run_with_input(self.client("kubectl")?.args(["apply", "-f", "-"]).args(flags), Some(manifest))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let mut probe = self.client("kubectl")?;
        probe.args(["get", "--raw", "/readyz"]);
        self.server.wait_until("to be ready", START_TIMEOUT, || probe.output().ok()?.status.success().then_some(()))
    }
}

fn kubeconfig(folder: &Path) -> PathBuf {
    folder.join("kubeconfig")
}

fn start_etcd(folder: &Path) -> Result<(Process, String)> {
    let local = || anyhow::Ok(format!("http://127.0.0.1:{}", ports::free_port(Ipv4Addr::LOCALHOST.into())?));
    let (client, peer) = (local()?, local()?);
    let args = [
        ("data-dir", text(&folder.join("etcd"))),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client.clone()),
        ("listen-peer-urls", peer),
    ];
    // Its content is worth nothing after a crash.
    let spec = Spec::new("etcd", tool("etcd")?)?.args(flags(args)).args(["--unsafe-no-fsync", "--log-level=warn"]);
    Ok((spec.spawn().context("failed to start etcd")?, client))
}

fn start_server(pki: &Pki, etcd: &str, port: u16) -> Result<Process> {
    let serving: Pair = pki.server("kube-apiserver", &["127.0.0.1"])?;
    let service_accounts = pki.signing_key("service-accounts")?;
    let args = [
        ("etcd-servers", etcd.to_owned()),
        ("bind-address", "127.0.0.1".into()),
        ("secure-port", port.to_string()),
        ("tls-cert-file", text(&serving.certificate)),
        ("tls-private-key-file", text(&serving.key)),
        ("client-ca-file", text(&pki.authority().certificate)),
        ("service-account-issuer", "https://kubernetes.default.svc".into()),
        ("service-account-key-file", text(&service_accounts.certificate)),
        ("service-account-signing-key-file", text(&service_accounts.key)),
        ("service-cluster-ip-range", "10.212.0.0/16".into()),
        ("authorization-mode", "RBAC".into()),
        // Nobody makes service accounts here, and pods without one would be refused.
        ("disable-admission-plugins", "ServiceAccount".into()),
        // An endpoint of loopback would be refused.
        ("endpoint-reconciler-type", "none".into()),
    ];
    Spec::new("kube-apiserver", tool("kube-apiserver")?)?.args(flags(args)).spawn().context("failed to start kube-apiserver")
}
