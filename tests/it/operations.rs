//! Metrics, probes, health, reflection.

use contactd::grpc::client::ContactServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::daemon::Changed as _;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find, refresh};

async fn channel(daemon: &TestDaemon) -> Channel {
    Endpoint::from_shared(format!("http://{}", daemon.grpc))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn every_family_of_the_contract_is_exported_and_counts() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    daemon.find(find()).await.unwrap();
    daemon.find(find().number("anonymous")).await.unwrap();
    daemon.find(find().number("x")).await.unwrap_err();
    daemon.find(find().platform("nobody's")).await.unwrap_err();
    crm.becomes(|_| Reply::status(500));
    daemon.find(refresh()).await.unwrap_err();

    let lookup = |trigger: &str, source: &str, outcome: &str| {
        format!(
            "contactd_lookups_total{{platform=\"example\",trigger=\"{trigger}\",source=\"{source}\",outcome=\"{outcome}\"}}"
        )
    };
    for (series, value) in [
        (lookup("incoming_call", "crm", "found"), 1.0),
        (lookup("incoming_call", "memory", "found"), 1.0),
        (lookup("incoming_call", "none", "not_found"), 1.0),
        (lookup("incoming_call", "none", "invalid_request"), 1.0),
        (lookup("manual_refresh", "none", "crm_unavailable"), 1.0),
        (
            "contactd_crm_requests_total{platform=\"example\",status=\"2xx\"}".to_owned(),
            3.0,
        ),
        (
            "contactd_crm_requests_total{platform=\"example\",status=\"5xx\"}".to_owned(),
            1.0,
        ),
        (
            "contactd_crm_request_duration_seconds_count{platform=\"example\"}".to_owned(),
            4.0,
        ),
        (
            "contactd_lookup_duration_seconds_count{platform=\"example\",source=\"memory\"}"
                .to_owned(),
            1.0,
        ),
        (
            "contactd_lookup_duration_seconds_count{platform=\"example\",source=\"crm\"}"
                .to_owned(),
            1.0,
        ),
        (
            "contactd_cache_requests_total{tier=\"memory\",result=\"hit\"}".to_owned(),
            1.0,
        ),
        (
            "contactd_cache_requests_total{tier=\"memory\",result=\"miss\"}".to_owned(),
            1.0,
        ),
        ("contactd_cache_entries".to_owned(), 1.0),
    ] {
        assert_eq!(daemon.metric(&series).await, Some(value), "{series}");
    }
    assert!(daemon.metric("contactd_cache_bytes").await.unwrap() > 300.0);
    let (status, page) = daemon.page("/metrics").await;
    assert_eq!(status, 200);
    assert!(page.contains("contactd_build_info{version=\"") && page.contains("revision=\""));
    assert_eq!(
        daemon
            .metric("contactd_lookups_shared_total{platform=\"example\"}")
            .await,
        Some(0.0)
    );
    assert!(page.ends_with("} 1\n") && !page.contains("# EOF"));
    for personal in ["user-1", "token-1", "650555", "Ada", "nobody's"] {
        assert!(!page.contains(personal), "{personal} in the metrics");
    }
}

#[tokio::test]
async fn probes_answer_and_unknown_pages_do_not() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    assert_eq!(daemon.page("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(daemon.page("/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(daemon.page("/admin").await.0, 404);
    drop(crm);
    assert_eq!(
        daemon.page("/readyz").await.0,
        200,
        "a CRM that is down is no reason to take calls elsewhere"
    );
}

#[tokio::test]
async fn health_is_told_for_the_server_and_for_the_service() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    let mut health = HealthClient::new(channel(&daemon).await);
    for service in ["", "contactd.v1.ContactService"] {
        let answer = health
            .check(HealthCheckRequest {
                service: service.to_owned(),
            })
            .await
            .unwrap();
        assert_eq!(
            answer.into_inner().status(),
            ServingStatus::Serving,
            "{service:?}"
        );
    }
    assert!(
        health
            .check(HealthCheckRequest {
                service: "other".to_owned()
            })
            .await
            .is_err()
    );
}

#[tokio::test]
async fn reflection_lists_the_service_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};

    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    let ask = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
        ..Default::default()
    };
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(channel(&daemon).await);
    let mut replies = client
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let reply = format!("{:?}", replies.message().await.unwrap());
    assert!(
        reply.contains("contactd.v1.ContactService") && reply.contains("grpc.health.v1.Health"),
        "{reply}"
    );

    let symbol = "contactd.v1.FindContactRequest".to_owned();
    let ask = v1alpha::ServerReflectionRequest {
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol),
        ),
        ..Default::default()
    };
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(channel(&daemon).await);
    let mut replies = client
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let reply = format!("{:?}", replies.message().await.unwrap());
    assert!(reply.contains("FileDescriptorResponse"), "{reply}");
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    let mut client = tonic::client::Grpc::new(channel(&daemon).await);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path =
        axum::http::uri::PathAndQuery::from_static("/contactd.v1.ContactService/CreateContact");
    let status = client
        .unary(tonic::Request::new(()), path, codec)
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    let _ = ContactServiceClient::new(channel(&daemon).await);
}
