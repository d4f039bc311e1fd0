//! A whole one-node Kubernetes: etcd, the control plane, containerd, a kubelet and kube-proxy, all real. Needs root.
//!
//! A machine has room for one such cluster: bridge, addresses and state folder are fixed names, and a lock makes test programs take turns. Within
//! one test program the tests share a cluster ([`Cluster::shared`]), each in a namespace of its own ([`Cluster::namespace`]).
//!
//! It is taken down when dropped; the shared one, which is a static and thus never dropped, by an `atexit` handler (libtest ends by `exit`); on
//! Ctrl-C and SIGTERM by a thread that waits for those. After SIGKILL of the test program the kernel kills the servers, and the next start
//! removes the rest ([`sweep`]).
//!
//! There is no cluster DNS: tests use ClusterIPs and pod IPs. A pod reaches the test program, and servers that it starts, at [`GATEWAY`].

pub mod api_server;
mod pki;
pub mod second;
mod sweep;

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use self::pki::Pki;
use super::ports;
use super::process::{Process, Spec, lock_file, run, run_with_input, wait_until};

/// The node's, the API server's and the bridge's address: one name for all, from pods and from the host.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
/// The image of the sandbox, also good for pods that do nothing but print their arguments and wait.
pub const PAUSE_IMAGE: &str = "localhost/pause:1";
pub const NODE: &str = "node1";

/// Short, for containerd's sockets lie in it and a socket's path has 107 bytes.
const STATE: &str = "/tmp/recording-cluster";
const LOCK: &str = "/tmp/recording-cluster.lock";
const BRIDGE: &str = "recording0";
const CGROUP: &str = "recording-tests";
const CNI_NETWORK: &str = "recording-tests";
const POD_RANGE: &str = "10.213.0.0/24";
/// Below it are the nodes.
const FIRST_POD: &str = "10.213.0.10";
const SERVICE_RANGE: &str = "10.212.0.0/16";
/// The first of the service range is always the API server's.
const API_SERVICE: &str = "10.212.0.1";
const API_PORT: u16 = 6443;

/// A whole other test program may be before us.
const TURN_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// [M] 3 s for the control plane and 8 s for the node on 2 idle cores; ten times that for busy ones.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// A SIGTERMed API server holds its port for seconds while it drains.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What one node has for itself.
struct Place {
    name: &'static str,
    address: Ipv4Addr,
    state: String,
    cgroup: String,
}

impl Place {
    fn first() -> Self {
        Self { name: NODE, address: GATEWAY, state: STATE.into(), cgroup: CGROUP.into() }
    }
}

/// A running cluster. Dropped, it is taken down.
#[derive(Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    logs: PathBuf,
    parts: Mutex<Parts>,
}

/// What there is to take down, in the order of starting.
#[derive(Debug, Default)]
struct Parts {
    processes: Vec<Process>,
    forwarding: Option<String>,
    turn: Option<File>,
}

impl Cluster {
    /// The cluster of this test program, started by whoever asks first and taken down when the program ends.
    pub fn shared() -> Result<&'static Self> {
        extern "C" fn take_down_shared() {
            if let Some(Ok(cluster)) = SHARED.get() {
                cluster.take_down();
            }
        }
        static SHARED: OnceLock<Result<Cluster>> = OnceLock::new();
        let started = SHARED.get_or_init(|| {
            // SAFETY: the handler is a plain function that does not unwind: take_down only logs what fails.
            unsafe { libc::atexit(take_down_shared) };
            Cluster::start()
        });
        started.as_ref().map_err(|error| anyhow!("the shared cluster did not start: {error:#}"))
    }

    /// Waits for its turn, starts everything, and waits until the node is Ready and pods can be created.
    pub fn start() -> Result<Self> {
        // SAFETY: geteuid reads a number.
        ensure!(unsafe { libc::geteuid() } == 0, "a cluster needs root");
        let turn = lock_file(Path::new(LOCK), TURN_TIMEOUT)?;
        sweep_when_interrupted();
        sweep::sweep().context("failed to remove what an earlier cluster left")?;
        let logs = super::logs()?.join("cluster");
        std::fs::create_dir_all(&logs)?;
        let kubeconfig = Path::new(STATE).join("kubeconfig");
        let cluster = Self { kubeconfig, logs, parts: Mutex::new(Parts { turn: Some(turn), ..Parts::default() }) };
        // From here on a failure drops the cluster, which takes down what was started.
        cluster.bring_up()?;
        Ok(cluster)
    }

    /// Of an administrator. The same file serves `KUBECONFIG` and [`Self::kubectl`].
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where the servers' logs are, and the containers' once the cluster is down.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// What kubectl prints; a failure carries its error output.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        run_with_input(self.client("kubectl")?.args(args), None)
    }

    /// `kubectl apply` of a manifest given as text.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        run_with_input(self.client("kubectl")?.args(["apply", "-f", "-"]), Some(manifest))
    }

    pub fn helm(&self, args: &[&str]) -> Result<String> {
        run_with_input(self.client("helm")?.args(args), None)
    }

    /// kubectl or helm as a command that already knows the cluster, for a caller that wants its exit code or a pipe.
    pub fn client(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(super::tool(program)?);
        // Their caches belong to the cluster and go with it.
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", STATE);
        Ok(command)
    }

    /// Loads an archive of `scripts/image.sh`; returns once pods can use it. Pods need `imagePullPolicy` Never or IfNotPresent: there is no registry.
    /// What it is called is said by whoever made the archive; [`Self::tag_image`] adds a name.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        import_at(STATE, archive)
    }

    /// Another name of an image that is there.
    pub fn tag_image(&self, image: &str, name: &str) -> Result<()> {
        tag_at(STATE, image, name)
    }

    /// Pods that need it do not start until it is there again; what runs goes on.
    pub fn remove_image(&self, reference: &str) -> Result<()> {
        ctr(&["image", "remove", "--sync", reference]).map(drop)
    }

    /// SIGKILL to one of the servers (`kube-apiserver`, `etcd`, `kubelet` …), then the same again; returns when the API server answers.
    pub fn restart(&self, server: &str) -> Result<()> {
        {
            let mut parts = self.parts();
            let process = parts.processes.iter_mut().find(|process| process.name() == server);
            process.with_context(|| format!("no server {server}"))?.restart()?;
        }
        self.while_running("the API server to be ready again", || self.kubectl(&["get", "--raw", "/readyz"]).ok().map(drop))
    }

    /// Where the kubelet keeps an emptyDir of the pod with this uid.
    pub fn empty_dir(&self, uid: &str, volume: &str) -> PathBuf {
        Path::new(STATE).join("kubelet/pods").join(uid).join("volumes/kubernetes.io~empty-dir").join(volume)
    }

    /// A namespace for one test, deleted when dropped.
    pub fn namespace(&self, name: &str) -> Result<Namespace<'_>> {
        self.kubectl(&["create", "namespace", name])?;
        let namespace = Namespace { cluster: self, name: name.to_owned() };
        // Pods are refused until the controller has made it.
        wait_until("the default service account", START_TIMEOUT, || self.kubectl(&["get", "serviceaccount", "default", "-n", name]).ok())?;
        Ok(namespace)
    }

    /// Waits for `kubectl wait`'s condition, such as `("demo", "pod/a", "condition=Ready")`; the error describes the object.
    pub fn wait_for(&self, namespace: &str, object: &str, condition: &str, timeout: Duration) -> Result<()> {
        let limit = format!("--timeout={}s", timeout.as_secs());
        let waited = self.kubectl(&["wait", "-n", namespace, object, "--for", condition, &limit]);
        waited.map(drop).with_context(|| self.kubectl(&["describe", "-n", namespace, object]).unwrap_or_default())
    }

    /// SIGKILL to a container's first process, as the kernel's OOM killer would.
    pub fn kill_container(&self, namespace: &str, pod: &str, container: &str) -> Result<()> {
        let path = format!("jsonpath={{.status.containerStatuses[?(@.name==\"{container}\")].containerID}}");
        let id = self.kubectl(&["get", "pod", "-n", namespace, pod, "-o", &path])?;
        let id = id.strip_prefix("containerd://").with_context(|| format!("{pod} has no running container {container}: {id:?}"))?;
        ctr(&["task", "kill", "--signal", "SIGKILL", id]).map(drop)
    }

    fn client_config(pki: &Pki, name: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let path = Path::new(STATE).join(format!("{name}.kubeconfig"));
        pki.kubeconfig(&path, &api_url(), &pki.client(name, user, group)?)?;
        Ok(path)
    }

    fn bring_up(&self) -> Result<()> {
        std::fs::create_dir_all(STATE)?;
        self.make_network()?;
        make_cgroups(CGROUP)?;
        let pki = Pki::create(&Path::new(STATE).join("pki"))?;
        pki.kubeconfig(&self.kubeconfig, &api_url(), &pki.client("admin", "admin", Some("system:masters"))?)?;
        self.start_containerd()?;
        self.start_control_plane(&pki)?;
        self.start_node(&pki)?;
        second::prepare(&pki)?;
        self.import_image(&pause_archive()?)?;
        self.wait_until_usable()
    }

    /// The bridge before the node: the API server and the kubelet bind to its address.
    fn make_network(&self) -> Result<()> {
        run("ip", ["link", "add", BRIDGE, "type", "bridge"])?;
        run("ip", ["address", "add", &format!("{GATEWAY}/24"), "dev", BRIDGE])?;
        run("ip", ["link", "set", BRIDGE, "up"])?;
        let before = std::fs::read_to_string(FORWARDING)?;
        std::fs::write(FORWARDING, "1")?;
        self.parts().forwarding = Some(before);
        Ok(())
    }

    fn start_control_plane(&self, pki: &Pki) -> Result<()> {
        let etcd = format!("http://127.0.0.1:{}", ports::free_port(Ipv4Addr::LOCALHOST.into())?);
        let peer = format!("http://127.0.0.1:{}", ports::free_port(Ipv4Addr::LOCALHOST.into())?);
        let args = [
            ("data-dir", format!("{STATE}/etcd")),
            ("listen-client-urls", etcd.clone()),
            ("advertise-client-urls", etcd.clone()),
            ("listen-peer-urls", peer),
        ];
        // Its content is worth nothing after a crash.
        self.launch("etcd", flags(args).chain(["--unsafe-no-fsync".to_owned(), "--log-level=warn".to_owned()]))?;
        let service_accounts = pki.signing_key("service-accounts")?;
        self.start_api_server(pki, &etcd, &service_accounts)?;
        let authority = pki.authority();
        let controllers = Self::client_config(pki, "kube-controller-manager", "system:kube-controller-manager", None)?;
        self.launch(
            "kube-controller-manager",
            flags([
                ("kubeconfig", text(&controllers)),
                ("service-account-private-key-file", text(&service_accounts.key)),
                ("root-ca-file", text(&authority.certificate)),
                ("cluster-signing-cert-file", text(&authority.certificate)),
                ("cluster-signing-key-file", text(&authority.key)),
                ("use-service-account-credentials", "true".into()),
                ("leader-elect", "false".into()),
                ("secure-port", "0".into()),
            ]),
        )?;
        let scheduler = Self::client_config(pki, "kube-scheduler", "system:kube-scheduler", None)?;
        self.launch(
            "kube-scheduler",
            flags([("kubeconfig", text(&scheduler)), ("leader-elect", "false".into()), ("secure-port", "0".into())]),
        )
    }

    fn start_api_server(&self, pki: &Pki, etcd: &str, service_accounts: &pki::Pair) -> Result<()> {
        let gateway = GATEWAY.to_string();
        let serving = pki.server("kube-apiserver", &[&gateway, API_SERVICE, "kubernetes.default.svc"])?;
        let to_kubelet = pki.client("to-kubelet", "kube-apiserver-kubelet-client", Some("system:masters"))?;
        let authority = text(&pki.authority().certificate);
        self.launch(
            "kube-apiserver",
            flags([
                ("etcd-servers", etcd.to_owned()),
                ("bind-address", gateway.clone()),
                ("advertise-address", gateway),
                ("secure-port", API_PORT.to_string()),
                ("tls-cert-file", text(&serving.certificate)),
                ("tls-private-key-file", text(&serving.key)),
                ("client-ca-file", authority.clone()),
                ("service-account-issuer", "https://kubernetes.default.svc".into()),
                ("service-account-key-file", text(&service_accounts.certificate)),
                ("service-account-signing-key-file", text(&service_accounts.key)),
                ("service-cluster-ip-range", SERVICE_RANGE.into()),
                ("authorization-mode", "Node,RBAC".into()),
                ("enable-admission-plugins", "NodeRestriction".into()),
                ("allow-privileged", "true".into()),
                // For `kubectl logs` and `exec`: where the kubelet is, who it is, and who we are to it.
                ("kubelet-preferred-address-types", "InternalIP".into()),
                ("kubelet-certificate-authority", authority),
                ("kubelet-client-certificate", text(&to_kubelet.certificate)),
                ("kubelet-client-key", text(&to_kubelet.key)),
            ]),
        )?;
        self.while_running("the API server to be ready", || self.kubectl(&["get", "--raw", "/readyz"]).ok().map(drop))
    }

    fn start_containerd(&self) -> Result<()> {
        let config = Path::new(STATE).join("containerd.toml");
        std::fs::write(&config, containerd_config(STATE))?;
        std::fs::create_dir_all(format!("{STATE}/cni"))?;
        std::fs::write(format!("{STATE}/cni/10-tests.conflist"), cni_config())?;
        self.launch_program("containerd", PathBuf::from("containerd"), ["--config".to_owned(), text(&config)])?;
        self.while_running("containerd to answer", || ctr(&["version"]).ok().map(drop))
    }

    fn start_node(&self, pki: &Pki) -> Result<()> {
        let gateway = GATEWAY.to_string();
        let serving = pki.server("kubelet", &[&gateway])?;
        let config = Path::new(STATE).join("kubelet.yaml");
        let place = Place::first();
        std::fs::write(&config, kubelet_config(&place, &serving, &pki.authority().certificate))?;
        let node = Self::client_config(pki, "kubelet-client", &format!("system:node:{NODE}"), Some("system:nodes"))?;
        self.launch("kubelet", kubelet_flags(&place, &config, &node))?;
        let proxy = Self::client_config(pki, "kube-proxy", "system:kube-proxy", None)?;
        self.launch(
            "kube-proxy",
            flags([
                ("kubeconfig", text(&proxy)),
                ("proxy-mode", "nftables".into()),
                ("cluster-cidr", POD_RANGE.into()),
                ("hostname-override", NODE.into()),
                // The kernel's connection table is the machine's, not ours to size.
                ("conntrack-max-per-core", "0".into()),
                ("conntrack-tcp-timeout-established", "0s".into()),
                ("conntrack-tcp-timeout-close-wait", "0s".into()),
                ("metrics-bind-address", local()?),
                ("healthz-bind-address", local()?),
            ]),
        )
    }

    fn wait_until_usable(&self) -> Result<()> {
        let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        self.while_running("the node to be Ready", || {
            self.kubectl(&["get", "node", NODE, "-o", ready]).ok().filter(|status| status == "True").map(drop)
        })?;
        self.while_running("the default service account", || self.kubectl(&["get", "serviceaccount", "default"]).ok().map(drop))
    }

    fn launch(&self, name: &str, args: impl IntoIterator<Item = String>) -> Result<()> {
        self.launch_program(name, super::tool(name)?, args)
    }

    fn launch_program(&self, name: &str, program: PathBuf, args: impl IntoIterator<Item = String>) -> Result<()> {
        let process = Spec::logging_to(&self.logs, name, program).args(args).spawn()?;
        self.parts().processes.push(process);
        Ok(())
    }

    /// Waits as long as all servers run; the error shows the log of the one that ended, or of the one started last.
    fn while_running(&self, what: &str, mut condition: impl FnMut() -> Option<()>) -> Result<()> {
        let mut ended = None;
        let outcome = wait_until(what, START_TIMEOUT, || {
            ended =
                self.parts().processes.iter_mut().find_map(|process| {
                    process.exit_status().map(|status| format!("{} ended ({status}), {}", process.name(), process.tail()))
                });
            if ended.is_some() { Some(()) } else { condition() }
        });
        match ended {
            Some(ended) => Err(anyhow!("{ended}").context(format!("waiting for {what}"))),
            None => outcome.with_context(|| self.parts().processes.last().map(Process::tail).unwrap_or_default()),
        }
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops kube-proxy, kubelet, scheduler, controller-manager, API server, etcd, containerd, one after the other, then sweeps. May be called again.
    fn take_down(&self) {
        let mut parts = self.parts();
        if parts.turn.is_none() {
            return;
        }
        while let Some(mut process) = parts.processes.pop() {
            process.stop(STOP_TIMEOUT);
        }
        keep_container_logs(&self.logs);
        if let Err(error) = sweep::sweep() {
            eprintln!("the cluster was not removed completely: {error:#}");
        }
        if let Some(before) = parts.forwarding.take() {
            // It was read from the same file.
            let _ = std::fs::write(FORWARDING, before);
        }
        parts.turn = None;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.take_down();
    }
}

/// A namespace of one test. Dropped, it is deleted; nobody waits for that.
#[derive(Debug)]
pub struct Namespace<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Namespace<'_> {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// kubectl within this namespace.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["-n", &self.name], args].concat())
    }

    /// `kubectl apply` within this namespace.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        let mut command = self.cluster.client("kubectl")?;
        run_with_input(command.args(["apply", "-n", &self.name, "-f", "-"]), Some(manifest))
    }

    pub fn wait_for(&self, object: &str, condition: &str, timeout: Duration) -> Result<()> {
        self.cluster.wait_for(&self.name, object, condition, timeout)
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        // A cluster that is down has no namespaces either.
        let _ = self.cluster.kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

fn api_url() -> String {
    format!("https://{GATEWAY}:{API_PORT}")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn flags<const N: usize>(pairs: [(&'static str, String); N]) -> impl Iterator<Item = String> {
    pairs.into_iter().map(|(name, value)| format!("--{name}={value}"))
}

fn local() -> Result<String> {
    Ok(format!("127.0.0.1:{}", ports::free_port(Ipv4Addr::LOCALHOST.into())?))
}

/// containerd's own client, in the namespace that the kubelet uses.
fn ctr(args: &[&str]) -> Result<String> {
    ctr_at(STATE, args)
}

fn ctr_at(state: &str, args: &[&str]) -> Result<String> {
    let socket = format!("{state}/containerd.sock");
    run("ctr", [&["--address", &socket, "--namespace", "k8s.io"], args].concat())
}

fn import_at(state: &str, archive: &Path) -> Result<()> {
    let archive = archive.to_str().context("the archive's path is no text")?;
    ctr_at(state, &["image", "import", archive])?;
    wait_until_visible(state)
}

fn tag_at(state: &str, image: &str, name: &str) -> Result<()> {
    ctr_at(state, &["image", "tag", "--force", image, name])?;
    wait_until_visible(state)
}

/// The kubelet's view (CRI) follows containerd's by events; its label says that it has caught up.
fn wait_until_visible(state: &str) -> Result<()> {
    wait_until("the images to be visible to the kubelet", START_TIMEOUT, || {
        let images = ctr_at(state, &["image", "list"]).ok()?;
        images.lines().skip(1).all(|image| image.contains("io.cri-containerd.image=managed")).then_some(())
    })
}

fn pause_archive() -> Result<PathBuf> {
    let archive = super::workspace().join("target/image/pause.tar");
    ensure!(archive.exists(), "{} is missing: run `make tools`", archive.display());
    Ok(archive)
}

/// The kubelet asks for its root group to exist with every controller.
fn make_cgroups(name: &str) -> Result<()> {
    let base = Path::new("/sys/fs/cgroup");
    if base.join("cgroup.controllers").exists() {
        std::fs::create_dir_all(base.join(name))?;
        let controllers = std::fs::read_to_string(base.join("cgroup.controllers"))?;
        let enable = controllers.split_whitespace().map(|controller| format!("+{controller}")).collect::<Vec<_>>().join(" ");
        std::fs::write(base.join("cgroup.subtree_control"), &enable)?;
        return Ok(std::fs::write(base.join(name).join("cgroup.subtree_control"), enable)?);
    }
    for hierarchy in std::fs::read_dir(base)? {
        let parent = hierarchy?.path();
        let group = parent.join(name);
        if !parent.is_dir() || parent.is_symlink() {
            continue;
        }
        std::fs::create_dir_all(&group)?;
        // A new cpuset is empty, and no process may enter an empty one.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if group.join(file).exists() && parent.join(file).exists() {
                std::fs::write(group.join(file), std::fs::read_to_string(parent.join(file))?)?;
            }
        }
    }
    Ok(())
}

fn containerd_config(state: &str) -> String {
    format!(
        r#"version = 2
root = "{state}/containerd/root"
state = "{state}/containerd/state"
[grpc]
  address = "{state}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{state}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE runc may not lower a score and dies without a word about it.
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE_IMAGE}"
  # So that what is mounted is found under one folder.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{STATE}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"#
    )
}

fn cni_config() -> String {
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": CNI_NETWORK,
        "plugins": [
            {
                "type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": format!("{STATE}/ipam"),
                    "ranges": [[{"subnet": POD_RANGE, "rangeStart": FIRST_POD, "gateway": GATEWAY.to_string()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "loopback"},
        ],
    })
    .to_string()
}

fn kubelet_flags(place: &Place, config: &Path, kubeconfig: &Path) -> impl Iterator<Item = String> {
    flags([
        ("config", text(config)),
        ("kubeconfig", text(kubeconfig)),
        ("hostname-override", place.name.into()),
        ("node-ip", place.address.to_string()),
        ("root-dir", format!("{}/kubelet", place.state)),
        ("cert-dir", format!("{}/kubelet-pki", place.state)),
    ])
}

fn kubelet_config(place: &Place, serving: &pki::Pair, authority: &Path) -> String {
    let state = &place.state;
    serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": place.address.to_string(),
        "port": 10250,
        "healthzPort": 0,
        "readOnlyPort": 0,
        "tlsCertFile": text(&serving.certificate),
        "tlsPrivateKeyFile": text(&serving.key),
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": text(authority)}},
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{state}/containerd.sock"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", place.cgroup),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": false,
        "podLogsDir": format!("{state}/pods"),
        "volumePluginDir": format!("{state}/volume-plugins"),
        // The machine's disk is not ours to judge; images stay until the cluster goes.
        "evictionHard": {"memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": true,
    })
    .to_string()
}

/// Best effort: a log that cannot be copied must not keep the cluster from being taken down.
fn keep_container_logs(folder: &Path) {
    let _ = run("cp", ["--recursive", "--dereference", &format!("{STATE}/pods"), &text(&folder.join("pods"))]);
}

/// Ctrl-C reaches the test program, not the servers (they have process groups of their own): remove everything, then end as the signal would have.
fn sweep_when_interrupted() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let Ok((mut signals, notify)) = io::pipe() else { return };
        NOTIFY.store(notify.into_raw_fd(), Ordering::SeqCst);
        for signal in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the handler only loads an atomic and calls write, both async-signal-safe.
            unsafe { libc::signal(signal, on_signal as *const () as libc::sighandler_t) };
        }
        std::thread::spawn(move || {
            let mut signal = [0];
            if signals.read_exact(&mut signal).is_ok() {
                if let Err(error) = sweep::sweep() {
                    eprintln!("the cluster was not removed completely: {error:#}");
                }
                // SAFETY: _exit does not return and runs no handlers, which would wait for locks that tests hold.
                unsafe { libc::_exit(128 + i32::from(signal[0])) };
            }
        });
    });
}

static NOTIFY: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_signal(signal: libc::c_int) {
    let byte = signal as u8;
    // SAFETY: the byte lives through the call, and write is async-signal-safe. A full pipe means that the news is already there.
    unsafe { libc::write(NOTIFY.load(Ordering::SeqCst), (&raw const byte).cast(), 1) };
}
