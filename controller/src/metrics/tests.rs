use super::*;
use crate::fixture::{at, final_report, recording, report, validated};
use crate::status;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::{reflector, watcher};
use recording_crds::codes::Code;
use recording_crds::report::ReportState;
use serde_json::json;

fn page(recordings: Vec<Recording>) -> String {
    let (cache, mut writer) = reflector::store();
    for recording in recordings {
        writer.apply_watcher_event(&watcher::Event::Apply(recording));
    }
    Metrics::new().expect("registered").text(&[cache])
}

#[test]
fn finished_recordings_are_only_counted() {
    let mut live = recording(json!({"metadata": {"name": "live"}}));
    let v = validated(&live);
    live.status = Some(status::fold(&v, &RecordingStatus::default(), Some(&report(ReportState::Recording, 30)), Timestamp::now()));
    let mut old = recording(json!({"metadata": {"name": "old"}}));
    old.status = Some(status::fold(
        &v,
        &RecordingStatus::default(),
        Some(&final_report(Code::NoUsers, 30, true)),
        at(0) - k8s_openapi::jiff::SignedDuration::from_hours(24 * 365),
    ));
    let text = page(vec![live, old]);
    assert!(text.contains(r#"recording_operator_recordings{namespace="team",phase="Recording"} 1"#), "{text}");
    assert!(text.contains(r#"recording_operator_recordings{namespace="team",phase="Completed"} 1"#));
    assert!(text.contains(r#"recording_operator_recording_phase{name="live",namespace="team",phase="Recording"} 1"#));
    assert!(text.contains(r#"recording_operator_recording_attempt{name="live",namespace="team"} "#));
    assert!(!text.contains(r#"name="old""#));
    assert!(text.contains("recording_operator_build_info{version="));
}

#[test]
fn a_failure_is_counted_once() {
    let metrics = Metrics::new().expect("registered");
    let before = RecordingStatus::default();
    let failed = status::fold(&validated(&recording(json!({}))), &before, Some(&final_report(Code::ConnectError, 0, false)), at(1));
    metrics.ended(&before, &failed);
    metrics.ended(&failed, &failed);
    assert!(metrics.text(&[]).contains(r#"recording_operator_recording_failures_total{code="ConnectError",component="Recorder"} 1"#));
}

#[tokio::test]
async fn pages_are_served_and_who_acts_is_ready_only_with_filled_caches() {
    let (cache, mut writer) = reflector::store::<Recording>();
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = probe.local_addr().expect("bound");
    drop(probe);
    let caches = Caches::default();
    let server = serve(address, Metrics::new().expect("registered"), caches.clone()).await.expect("listening");
    let status = |page: &str| {
        let uri: hyper::Uri = format!("http://{address}{page}").parse().expect("a URI");
        async move {
            let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                .build_http::<http_body_util::Empty<hyper::body::Bytes>>();
            client.get(uri).await.expect("answered").status().as_u16()
        }
    };
    assert_eq!(status("/readyz").await, 200, "standing by");
    caches.begin(vec![(cache.clone(), crate::filled::Filled::of(&cache))]);
    assert_eq!((status("/healthz").await, status("/readyz").await, status("/metrics").await), (200, 503, 200));
    writer.apply_watcher_event(&watcher::Event::Init);
    writer.apply_watcher_event(&watcher::Event::InitDone);
    assert_eq!(status("/readyz").await, 200);
    server.abort();
}
