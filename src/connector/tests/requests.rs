//! What is sent: POST reads, headers, redirects, links, repeats.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

#[tokio::test]
async fn a_search_by_post_sends_its_query_and_the_credential_as_the_profile_says() {
    let crm = ScriptedCrm::start(|seen| reply(200, &person(seen))).await;
    let profile = Profile {
        credential: two_headers(),
        inputs: reads_mail(),
        ..profile()
    };
    let found = find(profile, &crm.url).await.unwrap();
    assert_eq!((found.contacts.len(), found.complete), (1, true));
    let [seen] = &crm.seen()[..] else {
        panic!("one call")
    };
    let header = |name: &str| {
        seen.headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(
        (&seen.method, seen.path.as_str(), &seen.body),
        (
            &HttpMethod::POST,
            "/contacts/search",
            &json!({"number": "+16505551234"})
        )
    );
    for (name, expected) in [
        ("x-api-token", Some("key abc")),
        ("x-user", Some("ada@example.com")),
        ("authorization", None),
        ("content-type", Some("application/json")),
        ("accept", Some("application/json")),
        ("prefer", Some("transient")),
    ] {
        assert_eq!(header(name).as_deref(), expected, "{name}");
    }
}

#[tokio::test]
async fn a_credential_that_lacks_a_field_calls_nobody() {
    let crm = ScriptedCrm::start(|seen| reply(200, &person(seen))).await;
    let profile = Profile {
        credential: two_headers(),
        ..profile()
    };
    let failure = find(profile, &crm.url).await.unwrap_err();
    assert_eq!(
        failure,
        LookupError::CrmUnauthenticated,
        "the field is not among the inputs"
    );
    assert_eq!(crm.seen().len(), 0);
}

#[tokio::test]
async fn a_post_that_the_profile_does_not_declare_is_never_sent() {
    let crm = ScriptedCrm::start(|seen| reply(200, &person(seen))).await;
    for reads_by_post in [vec![], vec![ReadByPost::declare(&["contacts"])]] {
        let profile = Profile {
            reads_by_post,
            ..profile()
        };
        let failure = find(profile, &crm.url).await.unwrap_err();
        assert_eq!(failure, LookupError::Internal);
    }
    assert_eq!(crm.seen().len(), 0);
}

#[tokio::test]
async fn a_post_follows_a_redirect_only_if_it_stays_a_post_at_the_same_host() {
    for (status, to, is_followed) in [
        (307, "/moved", true),
        (308, "/moved", true),
        (301, "/moved", false),
        (302, "/moved", false),
        (303, "/moved", false),
        (307, "http://localhost/moved", false),
        (308, "//localhost/moved", false),
    ] {
        let crm = ScriptedCrm::start(move |seen| match seen.path.as_str() {
            "/moved" => reply(200, &person(seen)),
            _ => moved(status, to),
        })
        .await;
        let found = find(profile(), &crm.url).await;
        let seen = crm.seen();
        if is_followed {
            assert_eq!(found.unwrap().contacts.len(), 1, "{status}");
            assert_eq!(seen.len(), 2, "{status}");
            assert_eq!(seen[0].body, seen[1].body, "{status}");
        } else {
            let redirect = LookupError::CrmBadReply(BadReply::Redirect);
            assert_eq!(found.unwrap_err(), redirect, "{status} {to}");
            assert_eq!(seen.len(), 1, "{status} {to}");
        }
        assert!(seen.iter().all(|seen| seen.method == HttpMethod::POST));
    }
}

#[tokio::test]
async fn a_get_stays_a_get_behind_every_redirect() {
    for status in [301, 302, 303, 307, 308] {
        let crm = ScriptedCrm::start(move |seen| match seen.path.as_str() {
            "/moved" => reply(200, &json!({"id": "7"})),
            _ => moved(status, "/moved"),
        })
        .await;
        let connector = PostConnector::new(profile());
        let platform = platform(&connector, Some(crm.url.clone()));
        let crm = session(&platform, &user(&platform, &[], &[])).unwrap();
        assert!(connector.whoami(&crm).await.unwrap().is_some(), "{status}");
    }
}

#[tokio::test]
async fn a_read_by_post_is_sent_again_after_a_broken_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let server = async {
        let mut requests = Vec::new();
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"found\":[]}",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            requests.push(String::from_utf8(request).unwrap());
        }
        requests
    };
    let (found, requests) = tokio::join!(find(profile(), &url), server);
    assert!(found.unwrap().complete);
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert!(request.starts_with("POST /contacts/search "), "{request}");
    }
}

#[tokio::test]
async fn a_link_to_the_next_page_keeps_the_headers_and_is_a_get() {
    let crm = ScriptedCrm::start(|seen| {
        let number = "+16505551234";
        let person = |id: u32, next: &str| {
            json!({
                "found": [{"id": id, "name": "Ada", "kind": "contact", "phones": [{"number": number}]}],
                "next": next,
            })
        };
        match seen.path.as_str() {
            "/page/2" => reply(200, &person(2, "")),
            _ => reply(200, &person(1, "/page/2")),
        }
    })
    .await;
    let found = find(profile(), &crm.url).await.unwrap();
    assert_eq!((found.contacts.len(), found.complete), (2, true));
    let methods: Vec<_> = crm.seen().iter().map(|seen| seen.method.clone()).collect();
    assert_eq!(methods, [HttpMethod::POST, HttpMethod::GET]);
    for seen in crm.seen() {
        assert_eq!(seen.headers["prefer"], "transient", "{}", seen.path);
        assert_eq!(seen.headers["authorization"], "Bearer abc", "{}", seen.path);
    }
}
