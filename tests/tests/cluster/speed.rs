//! How soon it records: from the request that makes the Recording to its pod and to the first media, with the image on the node.

use crate::world::{FINISH, START, World};
use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use recording_crds::codes::Code;
use recording_crds::{Recording, conditions, labels};
use recording_tests::harness::cluster::Cluster;
use recording_tests::harness::process::wait_until;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const TIMES: usize = 5;
/// [D] On an idle machine; thrice that on a busy one.
const POD_MAX: Duration = Duration::from_millis(300);
/// [D] On an idle machine; thrice that on a busy one.
const FIRST_MEDIA_MAX: Duration = Duration::from_secs(3);
const BUSY: u32 = 3;

/// When this process first saw it.
type Seen = Arc<Mutex<HashMap<String, Instant>>>;

/// Somebody who watches pods and Recordings of a namespace.
struct Watch {
    runtime: tokio::runtime::Runtime,
    recordings: Api<Recording>,
    pods: Seen,
    media: Seen,
}

impl Watch {
    fn start(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(async {
            let config = kube::config::Kubeconfig::read_from(cluster.kubeconfig())?;
            anyhow::Ok(Client::try_from(Config::from_custom_kubeconfig(config, &Default::default()).await?)?)
        })?;
        let recordings: Api<Recording> = Api::namespaced(client.clone(), namespace);
        let (pods, media) = (Seen::default(), Seen::default());
        let note = |seen: &Seen, name: String| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_insert_with(Instant::now);
        };
        let (of_pods, of_media) = (pods.clone(), media.clone());
        let all = watcher(Api::<Pod>::namespaced(client, namespace), watcher::Config::default()).default_backoff().applied_objects();
        runtime.spawn(all.into_stream().filter_map(|pod| std::future::ready(pod.ok())).for_each(move |pod| {
            if let Some(name) = pod.metadata.labels.and_then(|mut labels| labels.remove(labels::RECORDING)) {
                note(&of_pods, name);
            }
            std::future::ready(())
        }));
        let all = watcher(recordings.clone(), watcher::Config::default()).default_backoff().applied_objects();
        runtime.spawn(all.into_stream().filter_map(|recording| std::future::ready(recording.ok())).for_each(move |recording| {
            let status = recording.status.unwrap_or_default();
            if let Some(name) = recording.metadata.name.filter(|_| conditions::is_true(&status.conditions, conditions::RECORDING)) {
                note(&of_media, name);
            }
            std::future::ready(())
        }));
        Ok(Self { runtime, recordings, pods, media })
    }

    fn seen(&self, seen: &Seen, name: &str, what: &str) -> Result<Instant> {
        wait_until(what, START, || seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied())
    }
}

/// One after the other, by the clock of this process: the request is sent, the pod exists, the status says that media is recorded.
#[test]
#[ignore = "a measurement: make faults"]
fn apply_to_first_media() -> Result<()> {
    let world = &World::new("speed")?;
    let watch = Watch::start(world.cluster, world.ns.name())?;
    let (mut pods, mut media) = (Vec::new(), Vec::new());
    for number in 0..TIMES {
        let name = format!("speed-{number}");
        let recording: Recording = serde_yaml::from_str(&world.room(&name, 4)?)?;
        let sent = Instant::now();
        watch.runtime.block_on(watch.recordings.create(&PostParams::default(), &recording)).context("the Recording")?;
        pods.push(watch.seen(&watch.pods, &name, "its pod")? - sent);
        media.push(watch.seen(&watch.media, &name, "its first media")? - sent);
        world.wait(&name, "condition=Complete", FINISH)?;
        world.completed(&name, Code::NoUsers, 1)?;
    }
    for (what, took, max) in [("pod", &mut pods, POD_MAX), ("first media", &mut media, FIRST_MEDIA_MAX)] {
        took.sort();
        let median = took[TIMES / 2];
        println!("apply to {what}: {median:.2?} in the median of {TIMES}, {:.2?} to {:.2?}", took[0], took[TIMES - 1]);
        ensure!(median <= max * BUSY, "{what}: {took:?}");
    }
    Ok(())
}
