//! What the cost sheet of a file says of requests that depend on a record.

use super::*;

/// The fewest calls for the details of a contact, if the search's record has this id and the
/// request for details has this value.
fn least(id: &str, value: &str) -> u32 {
    let source = format!(
        "format = 1
name = \"Deals\"
[crm]
base = \"https://crm.example.com\"
quota = {{ rate = 10, per = \"1s\" }}
[[search]]
get = \"/search\"
query.phone = \"{{{{text}}}}\"
list = \"people\"
phones = [\"phone\"]
record = {{ id = {id}, name = \"{{{{name}}}}\" }}
[[details]]
name = \"deals\"
get = \"/deals\"
query.of = \"{value}\"
list = \"deals\"
choice = {{ const = \"{{{{id}}}}\", title = \"{{{{title}}}}\" }}
"
    );
    let file = read_spec(SpecKind::File, &source, Secrets::Any).unwrap();
    let requests = file.cost_sheet().requests;
    let details = requests.iter().find(|it| it.purpose == "details deals");
    details.unwrap().calls.least
}

#[test]
fn details_are_left_out_for_no_record_if_they_need_only_its_id() {
    for (id, value, expected) in [
        ("\"{{id}}\"", "{{record.id}}", 1),
        ("\"{{item.uid}}\"", "{{record.item.uid}}", 1),
        ("\"{{item.uid}}\"", "{{record.id}}", 0),
        ("\"{{id}}\"", "{{record.company.id}}", 0),
        (
            "\"{{id}}\"",
            "{{record.id | between \\\"a\\\" \\\"b\\\"}}",
            0,
        ),
        ("[\"{{id}}\", \"{{uid}}\"]", "{{record.id}}", 0),
        ("\"c{{id}}\"", "{{record.id}}", 0),
    ] {
        assert_eq!(least(id, value), expected, "{id} {value}");
    }
}
