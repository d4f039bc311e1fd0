//! The command line. Every flag says what it is for and what happens without it.

use crate::{controller, logging};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Records live WebRTC rooms on Kubernetes, or on this machine.
#[derive(Debug, Parser)]
#[command(name = "recording-operator", version, about, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller: watch Recordings and give each one a recorder pod
    ///
    /// Needs a cluster: the service account it runs under, or KUBECONFIG. Holds no state; it may be stopped and started at
    /// any moment without consequence to a recording.
    Run(RunArgs),
    /// Run one Recording manifest on this machine, without a cluster
    Local(crate::local::LocalArgs),
    /// Take our finalizers from Recordings and pods, when the operator is gone for good and deleting them hangs
    ///
    /// Deletes nothing. Recorders that still run go on, and store what they have.
    Release(crate::release::ReleaseArgs),
    /// Print the CustomResourceDefinition as YAML, for `kubectl apply -f -`
    Crds,
    /// Print a completion script, for example: source <(recording-operator completions bash)
    Completions {
        /// The shell to write the script for
        shell: clap_complete::Shell,
    },
}

/// What the controller needs to know; there is no configuration file.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Image of the recorder pods; the chart passes the image that the controller itself runs, so the two are of one version
    #[arg(long, env = "RECORDER_IMAGE", value_name = "IMAGE")]
    pub recorder_image: String,
    /// When the kubelet pulls that image
    #[arg(long, default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"], value_name = "POLICY")]
    pub image_pull_policy: String,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub metrics_addr: SocketAddr,
    /// Lines for people, or one JSON object per line; RUST_LOG chooses what is logged (default: info)
    #[arg(long, value_enum, default_value = "human", value_name = "FORMAT")]
    pub log_format: logging::Format,
    /// Watch only this namespace; may be given several times. Without it: all namespaces
    #[arg(long = "watch-namespace", value_name = "NAMESPACE")]
    pub watch_namespaces: Vec<String>,
    /// Recorders fetch the images of layouts from private addresses, too: then whoever may create a Recording may have a look at what answers there
    #[arg(long)]
    pub allow_private_images: bool,
    #[command(flatten)]
    pub election: ElectionArgs,
}

/// Of several controllers one acts: the holder of a Lease. The others stand by, and are ready.
#[derive(Clone, Debug, clap::Args)]
pub struct ElectionArgs {
    /// Whether to wait for the Lease before anything is done; false only where nothing else can run at the same time
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub leader_elect: bool,
    /// Name of the Lease
    #[arg(long, env = "LEASE_NAME", default_value = "recording-operator", value_name = "NAME")]
    pub lease_name: String,
    /// Namespace of the Lease. Without it: the service account's, or that of the kubeconfig's context
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Who we are in the Lease, unique among those that are alive. Without it: a random name
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
}

impl Cli {
    /// Runs the command; the exit code is the process's.
    pub fn execute(self) -> ExitCode {
        match self.command {
            Command::Run(args) => {
                logging::install(args.log_format);
                run(controller::run(args))
            }
            Command::Release(args) => {
                logging::install(logging::Format::Human);
                run(crate::release::run(&args))
            }
            Command::Local(args) => crate::local::execute(args),
            Command::Crds => print(&recording_crds::crd::yaml()),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "recording-operator", &mut script);
                print(&String::from_utf8_lossy(&script))
            }
        }
    }
}

fn run(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    // One thread: all work is small, and more of them mostly wake each other.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(work));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A closed pipe (`| head`) is how readers say that they have seen enough.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn several_namespaces_may_be_watched() {
        let cli =
            Cli::try_parse_from(["x", "run", "--recorder-image", "i", "--watch-namespace", "a", "--watch-namespace", "b"]).expect("valid");
        let Command::Run(args) = cli.command else { panic!("run was asked for") };
        assert_eq!(args.watch_namespaces, ["a", "b"]);
        assert!(args.election.leader_elect, "unless told otherwise");
    }

    #[test]
    fn release_must_be_told_whose() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["x", "release"], args].concat());
        assert!(parse(&[]).is_err() && parse(&["--all", "--namespace", "a"]).is_err());
        assert!(parse(&["--all", "--dry-run"]).is_ok() && parse(&["-n", "a", "-y"]).is_ok());
    }

    #[test]
    fn a_wrong_pull_policy_is_refused_with_the_right_ones() {
        let error = Cli::try_parse_from(["x", "run", "--recorder-image", "i", "--image-pull-policy", "Sometimes"]).expect_err("refused");
        assert!(error.to_string().contains("IfNotPresent"));
    }
}
