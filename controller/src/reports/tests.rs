use super::*;
use axum::Router;
use axum::extract::Query;
use axum::routing::get;

async fn recorder(answer: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let page = move |Query(asked): Query<HashMap<String, String>>| async move {
        assert_eq!((asked["after"].as_str(), asked["wait"].as_str()), ("7", "1"));
        answer
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/report", get(page))).await });
    address
}

#[tokio::test]
async fn a_report_is_fetched() {
    let address = recorder(r#"{"version": 8, "attempt": 2, "state": "Recording"}"#).await;
    let report = fetch(address, 7, Duration::from_secs(1)).await.expect("a report");
    assert_eq!((report.version, report.attempt), (8, 2));
}

#[tokio::test]
async fn what_is_no_report_is_an_error() {
    let address = recorder("<html>").await;
    assert!(matches!(fetch(address, 7, Duration::from_secs(1)).await, Err(FetchError::Syntax(_))));
    let endless: &'static str = Box::leak(" ".repeat(REPORT_MAX_BYTES + 1).into_boxed_str());
    let address = recorder(endless).await;
    assert!(matches!(fetch(address, 7, Duration::from_secs(1)).await, Err(FetchError::Body(_))));
}

#[tokio::test]
async fn nobody_there_is_an_error_and_not_a_wait() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    assert!(matches!(fetch(free, 0, Duration::from_secs(1)).await, Err(FetchError::Connection(_))));
}
