use std::collections::BTreeMap;

use super::*;

#[test]
fn a_host_is_a_dns_name_and_nothing_else() {
    for text in [
        "acme.pipedrive.com",
        "Acme.Pipedrive.COM",
        "a-b.c1.example",
        "xn--mnchen-3ya.example",
    ] {
        assert_eq!(
            Host::parse(text).unwrap().as_str(),
            text.to_ascii_lowercase()
        );
    }
    for text in [
        "",
        ".",
        "localhost",
        "acme.pipedrive.com.",
        ".pipedrive.com",
        "acme..com",
        "acme.pipedrive.com:8443",
        "user@acme.pipedrive.com",
        "user:pw@acme.pipedrive.com",
        "acme.pipedrive.com/",
        "acme.pipedrive.com/x",
        "acme.pipedrive.com#",
        "acme.pipedrive.com?x=1",
        "https://acme.pipedrive.com",
        "acme.pipedrive.com\r\nX: y",
        "acme.pipedrive.com ",
        " acme.pipedrive.com",
        "acme.pipedrive.com\0",
        "acme.pipedrive.com\\@evil.example",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "[::1]",
        "::1",
        "1.2.3.4.0x10",
        "169.254.169.254",
        "acme.pipedrive.com%2f",
        "acmé.example",
        "a_b.example",
        "-a.example",
        "a-.example",
        "１２７.0.0.1",
        "acme\u{3002}pipedrive.com",
    ] {
        assert_eq!(Host::parse(text), None, "{text:?}");
    }
    assert_eq!(Host::parse(&format!("{}.example", "a".repeat(64))), None);
    assert_eq!(Host::parse(&format!("{}example", "a.".repeat(130))), None);
}

#[test]
fn a_credential_cannot_smuggle_a_header_and_is_never_printed() {
    for text in [
        "",
        "  ",
        "Bearer a\r\nX-Evil: 1",
        "Bearer a\nb",
        "Bearer \0",
        "Bearer é",
    ] {
        assert!(AuthHeader::parse(text).is_none(), "{text:?}");
    }
    let header = AuthHeader::parse(" Bearer secret-1 ").unwrap();
    assert_eq!(header.expose(), "Bearer secret-1");
    assert!(!format!("{header:?}").contains("secret"));
    assert!(AuthHeader::parse("x".repeat(8193)).is_none());
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

#[test]
fn settings_are_read_wrapped_and_plain() {
    let wrapped = Struct {
        fields: BTreeMap::from([("value".to_owned(), value(Kind::BoolValue(true)))]),
    };
    let settings = Settings::new(Struct {
        fields: BTreeMap::from([
            ("wrapped".to_owned(), value(Kind::StructValue(wrapped))),
            ("plain".to_owned(), value(Kind::BoolValue(true))),
            ("off".to_owned(), value(Kind::BoolValue(false))),
            ("empty".to_owned(), value(Kind::StringValue(String::new()))),
            ("null".to_owned(), value(Kind::NullValue(0))),
            ("zero".to_owned(), value(Kind::NumberValue(0.0))),
            (
                "text".to_owned(),
                value(Kind::StringValue("yes".to_owned())),
            ),
        ]),
    });
    for (name, on) in [
        ("wrapped", true),
        ("plain", true),
        ("text", true),
        ("off", false),
        ("empty", false),
        ("null", false),
        ("zero", false),
        ("missing", false),
    ] {
        assert_eq!(settings.is_on(name), on, "{name}");
    }
}
