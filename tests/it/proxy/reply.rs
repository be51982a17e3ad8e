//! Replies: the list, its items, and what proves nothing.

use super::*;

async fn found(mapping: Value, reply: Reply) -> Result<Vec<ContactInfo>, String> {
    let config = with_find(searching(json!({"responseMapping": mapping})));
    let proxied = Proxied::new(&config).await;
    proxied.crm.becomes(move |_| reply.clone());
    let response = proxied.daemon.find(find()).await;
    let response = response.map_err(|error| details(&error).reason)?;
    let contacts = response.matched_contact_info.into_iter();
    Ok(contacts.filter(|contact| !contact.is_new_contact).collect())
}

#[tokio::test]
async fn items_are_mapped_by_their_paths_and_defaults() {
    let item = json!({
        "id": 7, "name": "Ada", "phone": "+1 650 555 1234", "type": "Lead", "title": "CTO", "company": "Engines",
        "createdDate": "2024-01-01", "mostRecentActivityDate": 1_700_000_000_000_u64,
        "additionalInfo": {"deals": [{"const": 1, "title": "Deal"}], "stage": "new", "nested": {"a": 1}, "none": null},
    });
    let contacts = found(json!({}), Reply::json(json!([item]))).await.unwrap();
    let ada = &contacts[0];
    let texts = [&ada.id, &ada.name, &ada.r#type, &ada.title, &ada.company];
    assert_eq!(texts, ["7", "Ada", "Lead", "CTO", "Engines"]);
    assert_eq!(ada.match_quality(), MatchQuality::Exact);
    let info = json!({"deals": [{"const": 1, "title": "Deal"}], "stage": "new"});
    assert_eq!(ada.additional_info, info.as_object().map(to_struct));

    let item = json!({
        "key": "k-1", "names": [{"full": "Bob"}], "kind": "", "job": {"title": null}, "title": "not this",
        "company": "not this", "meta": {"0": {"org": "Acme"}}, "extra": "none",
    });
    let mapping = json!({"listPath": "body.result.0.rows", "item": {
        "idPath": "key", "namePath": "names.0.full", "phonePath": "", "typePath": "kind", "titlePath": "job.title",
        "companyPath": "meta.0.org", "createdDatePath": null, "additionalInfoPath": "extra",
    }});
    let reply = Reply::json(json!({"result": [{"rows": [item]}]}));
    let contacts = found(mapping, reply).await.unwrap();
    let bob = &contacts[0];
    let texts = [&bob.id, &bob.name, &bob.r#type, &bob.title, &bob.company];
    assert_eq!(texts, ["k-1", "Bob", "Contact", "", "Acme"]);
    assert_eq!(bob.match_quality(), MatchQuality::Unverified);
}

#[tokio::test]
async fn an_item_may_be_a_text_and_one_without_an_id_is_left_out() {
    let mapping = json!({"listPath": "body.names", "item": {"idPath": "$", "namePath": "$"}});
    let reply = Reply::json(json!({"names": ["Ada", null, "Bob"]}));
    let contacts = found(mapping, reply).await.unwrap();
    let names: Vec<&str> = contacts
        .iter()
        .map(|contact| contact.name.as_str())
        .collect();
    assert_eq!(names, ["Ada", "Bob"]);
}

#[tokio::test]
async fn a_reply_proves_nobody_only_if_it_is_an_answer() {
    let list = || json!({"listPath": "body.data"});
    let bad = || Err("CRM_BAD_REPLY".to_owned());
    for (reply, expected) in [
        (Reply::json(json!({"data": []})), Ok(0)),
        (Reply::json(json!({"data": null})), Ok(0)),
        (Reply::json(json!({"data": {}})), Ok(0)),
        (Reply::json(json!({"data": ""})), Ok(0)),
        (Reply::json(json!({"total": 0})), Ok(0)),
        (
            Reply::text("application/json", String::new()).but(204),
            Ok(0),
        ),
        (Reply::json(json!({"data": [{"id": 1}]})).but(201), Ok(1)),
        (Reply::json(json!({"data": {"id": 1}})), bad()),
        (Reply::json(json!({"data": "x"})), bad()),
        (
            Reply::json(json!({"data": [], "error": "no such filter"})),
            bad(),
        ),
        (Reply::html(), bad()),
        (Reply::text("application/json", String::new()), bad()),
        (Reply::json(json!({"data": []})).but(202), bad()),
        (Reply::status(401), Err("CRM_UNAUTHENTICATED".to_owned())),
        (Reply::status(429), Err("CRM_RATE_LIMITED".to_owned())),
    ] {
        let shown = format!("{reply:?}");
        let count = found(list(), reply).await.map(|contacts| contacts.len());
        assert_eq!(count, expected, "{shown}");
    }
}

#[tokio::test]
async fn a_record_with_another_number_is_unverified_or_left_out() {
    let rows = json!([
        {"id": 1, "name": "Other", "phone": "+1 650 555 9999", "more": []},
        {"id": 2, "name": "Mobile", "phone": "+1 650 555 9999", "more": ["(650) 555-1234"]},
        {"id": 3, "name": "Same", "phone": "+1 650 555 1234", "more": []},
    ]);
    for (own, expected) in [
        (
            json!({}),
            vec![
                ("Same", MatchQuality::Exact),
                ("Other", MatchQuality::Unverified),
                ("Mobile", MatchQuality::Unverified),
            ],
        ),
        (
            json!({"phones": ["phone", "more"]}),
            vec![
                ("Mobile", MatchQuality::Exact),
                ("Same", MatchQuality::Exact),
            ],
        ),
    ] {
        let mut config = with_find(searching(json!({})));
        config["contactd"] = own;
        let proxied = Proxied::new(&config).await;
        let rows = rows.clone();
        proxied.crm.becomes(move |_| Reply::json(rows.clone()));
        let found = proxied.find(find()).await;
        let found: Vec<_> = found
            .iter()
            .map(|c| (c.name.as_str(), c.match_quality()))
            .collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn our_own_tables_work_beside_the_operation() {
    let mut config = with_find(searching(json!({
        "method": "POST", "url": "find", "body": {"q": "{{phoneNumber}}"}, "query": {},
        "responseMapping": {"listPath": "body.rows"},
    })));
    config["requestDefaults"]["defaultHeaders"] = json!({"X-Fixed": "f", "X-Slot": "{{user.id}}"});
    config["contactd"] = json!({
        "spellings": ["e164", "national"], "phones": ["phone"],
        "pages": {"cursor": "next", "as": "body.after"},
        "details": [{
            "name": "deals", "get": "/people/{{record.id}}/deals", "list": "deals",
            "choice": {"const": "{{id}}", "title": "{{title}}"},
        }],
        "errors": [{"status": 404, "means": "nothing"}],
        "whoami": {"get": "/api/v1/me", "id": "id"},
        "quota": {"rate": 100, "per": "1s"},
        "rate": {"remaining": "X-Left"},
    });
    let proxied = Proxied::new(&config).await;
    proxied.crm.becomes(
        |seen| match (seen.path.as_str(), &seen.body["q"], &seen.body["after"]) {
            ("/api/v1/me", ..) => Reply::json(json!({"id": "u"})),
            ("/people/5/deals", ..) => Reply::json(json!({"deals": [{"id": 9, "title": "Big"}]})),
            ("/find", q, _) if q == "+16505551234" => Reply::status(404),
            ("/find", _, Value::Null) => {
                Reply::json(json!({"rows": [{"id": 4, "phone": "1"}], "next": "p2"}))
            }
            ("/find", ..) => {
                Reply::json(json!({"rows": [{"id": 5, "name": "Ada", "phone": "650 555 1234"}]}))
            }
            other => panic!("unexpected {other:?}"),
        },
    );
    let response = proxied.daemon.find(find()).await.unwrap();
    assert_eq!(names(&response), ["Ada"]);
    let deals = json!({"deals": [{"const": 9, "title": "Big"}]});
    let ada = &response.matched_contact_info[0];
    assert_eq!(ada.additional_info, deals.as_object().map(to_struct));
    assert_eq!(proxied.crm.asked_who(), 1);
    let bodies: Vec<Value> = proxied
        .crm
        .seen()
        .iter()
        .filter(|seen| seen.path == "/find")
        .map(|seen| seen.body.clone())
        .collect();
    let national = json!({"q": "6505551234"});
    assert_eq!(
        bodies,
        [
            json!({"q": "+16505551234"}),
            national,
            json!({"q": "6505551234", "after": "p2"})
        ]
    );
    let details = proxied.crm.seen();
    let details = details
        .iter()
        .find(|seen| seen.path.ends_with("/deals"))
        .unwrap();
    assert_eq!(
        (details.header("x-fixed"), details.header("x-slot")),
        (Some("f"), None)
    );
}
