//! The cache of recorder pods, found by their Recording: a look at one Recording does not go through the pods of all.

use crate::filled::Filled;
use crate::seen::belongs_to;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::ResourceExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use recording_crds::{Recording, labels, names};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Pods by recording ID.
type Index = HashMap<String, HashSet<ObjectRef<Pod>>>;

/// Clones look into the same cache.
#[derive(Clone)]
pub struct Pods {
    store: Store<Pod>,
    filled: Filled,
    index: Arc<Mutex<Index>>,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pods").field("filled", &self.filled).finish_non_exhaustive()
    }
}

/// What fills it.
pub(crate) struct PodsWriter {
    store: Writer<Pod>,
    index: Arc<Mutex<Index>>,
    /// Of a listing that has not ended yet.
    listed: Index,
}

pub(crate) fn cache() -> (Pods, PodsWriter) {
    let (store, writer) = reflector::store();
    let index = Arc::new(Mutex::default());
    (Pods { filled: Filled::of(&store), store, index: index.clone() }, PodsWriter { store: writer, index, listed: Index::new() })
}

impl Pods {
    /// False when whoever fills it is gone.
    pub(crate) async fn filled(&self) -> bool {
        self.filled.wait().await
    }

    pub(crate) fn get(&self, pod: &ObjectRef<Pod>) -> Option<Arc<Pod>> {
        self.store.get(pod)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Pod>> {
        self.store.state()
    }

    /// In no order.
    pub(crate) fn of(&self, recording: &Recording) -> Vec<Arc<Pod>> {
        let uid = recording.uid().unwrap_or_default();
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let refs = index.get(&names::recording_id(&uid)).into_iter().flatten();
        refs.filter_map(|pod| self.store.get(pod)).filter(|pod| pod.namespace() == recording.namespace() && belongs_to(pod, &uid)).collect()
    }
}

impl PodsWriter {
    /// What is in the store is in the index; a pod of the index that is not in the store any more is nobody's.
    pub(crate) fn take(&mut self, event: &Event<Pod>) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => self.listed = Index::new(),
            Event::InitApply(pod) => note(&mut self.listed, pod),
            Event::InitDone => *index = std::mem::take(&mut self.listed),
            Event::Apply(pod) => note(&mut index, pod),
            Event::Delete(pod) => drop_from(&mut index, pod),
        }
        self.store.apply_watcher_event(event);
    }
}

/// What nobody here looks at is not kept: of the spec only the node, which is the smaller part by far.
pub(crate) fn slim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.spec = pod.spec.take().map(|spec| PodSpec { node_name: spec.node_name, ..PodSpec::default() });
}

fn note(index: &mut Index, pod: &Pod) {
    if let Some(id) = id_of(pod) {
        index.entry(id.to_owned()).or_default().insert(ObjectRef::from_obj(pod));
    }
}

fn drop_from(index: &mut Index, pod: &Pod) {
    let Some(id) = id_of(pod) else { return };
    if let Some(pods) = index.get_mut(id) {
        pods.remove(&ObjectRef::from_obj(pod));
        if pods.is_empty() {
            index.remove(id);
        }
    }
}

fn id_of(pod: &Pod) -> Option<&str> {
    pod.labels().get(labels::RECORDING_ID).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn recording(uid: &str) -> Recording {
        let mut recording = crate::fixture::recording(json!({}));
        recording.metadata.uid = Some(uid.to_owned());
        recording.metadata.name = Some(uid.to_owned());
        recording
    }

    fn pod(of: &Recording, attempt: u32) -> Pod {
        let id = names::recording_id(&of.uid().expect("a uid"));
        serde_json::from_value(json!({"metadata": {
            "name": format!("{}-{attempt}", of.name_any()), "namespace": of.namespace(), "labels": {labels::RECORDING_ID: id},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Recording", "name": of.name_any(), "uid": of.uid()}],
        }}))
        .expect("a pod")
    }

    fn names_of(pods: &Pods, recording: &Recording) -> Vec<String> {
        let mut names: Vec<String> = pods.of(recording).iter().map(|pod| pod.name_any()).collect();
        names.sort();
        names
    }

    #[test]
    fn pods_are_found_by_their_recording_while_they_come_and_go() {
        let (pods, mut writer) = cache();
        let (a, b) = (recording("a"), recording("b"));
        for event in [Event::Init, Event::InitApply(pod(&a, 1)), Event::InitApply(pod(&b, 1)), Event::InitDone] {
            writer.take(&event);
        }
        writer.take(&Event::Apply(pod(&a, 2)));
        let one_and_two: Vec<String> = [1, 2].map(|n| format!("{}-{n}", a.name_any())).into();
        assert_eq!(names_of(&pods, &a), one_and_two);
        writer.take(&Event::Delete(pod(&a, 1)));
        assert_eq!(names_of(&pods, &a), one_and_two[1..]);
        // Listed anew, without those that went meanwhile; until the listing has ended the old one holds.
        writer.take(&Event::Init);
        writer.take(&Event::InitApply(pod(&a, 3)));
        assert_eq!(names_of(&pods, &a), one_and_two[1..]);
        writer.take(&Event::InitDone);
        assert_eq!(names_of(&pods, &a), [format!("{}-3", a.name_any())]);
        assert!(names_of(&pods, &b).is_empty());
    }
}
