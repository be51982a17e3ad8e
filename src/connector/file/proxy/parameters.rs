//! Parameters as axios writes them: nested values in brackets, and its own set of characters that
//! stay unencoded. The CRM's configuration was tried with axios, so it gets the same bytes.

use serde_json::Value;

use super::template::script_text;

/// The parameters of an object. Members that are null are left out, and empty texts stay.
pub(in crate::connector::file) fn pairs(object: &Value) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        add_member(&mut pairs, key.trim(), value);
    }
    pairs
}

fn add_member(pairs: &mut Vec<(String, String)>, key: &str, value: &Value) {
    match value {
        Value::Object(_) | Value::Array(_) if key.ends_with("{}") => {
            pairs.push((key.to_owned(), value.to_string()));
        }
        Value::Array(items) if is_flat(items) || key.ends_with("[]") => {
            let key = format!("{}[]", without_brackets(key));
            for item in items {
                add(pairs, &key, item);
            }
        }
        Value::Object(_) | Value::Array(_) => add_below(pairs, without_brackets(key), value),
        value => add(pairs, key, value),
    }
}

/// A nested value: `key[member]`, `key[0][member]`.
fn add_below(pairs: &mut Vec<(String, String)>, key: &str, value: &Value) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let member = without_brackets(member.trim());
                add_below(pairs, &format!("{key}[{member}]"), value);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                add_below(pairs, &format!("{key}[{n}]"), item);
            }
        }
        value => add(pairs, key, value),
    }
}

fn add(pairs: &mut Vec<(String, String)>, key: &str, value: &Value) {
    if !value.is_null() {
        pairs.push((key.to_owned(), script_text(value)));
    }
}

fn without_brackets(key: &str) -> &str {
    key.strip_suffix("[]").unwrap_or(key)
}

fn is_flat(items: &[Value]) -> bool {
    !items.iter().any(|item| item.is_array() || item.is_object())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::connector::request::axios_query;

    #[test]
    fn parameters_are_written_as_axios_writes_them() {
        for (query, expected) in [
            (json!({"q": "+1 650"}), "q=%2B1+650"),
            (json!({"q": "a&b=c#d?e/f"}), "q=a%26b%3Dc%23d%3Fe%2Ff"),
            (json!({"q": "a:b$c,d;[e]"}), "q=a:b$c,d%3B%5Be%5D"),
            (json!({"q": "!'()*~-_."}), "q=!'()*~-_."),
            (json!({"q": "é\r\n\0"}), "q=%C3%A9%0D%0A%00"),
            (
                json!({"a": [1, "x", null, true]}),
                "a%5B%5D=1&a%5B%5D=x&a%5B%5D=true",
            ),
            (json!({"a[]": [1]}), "a%5B%5D=1"),
            (json!({"a": []}), ""),
            (
                json!({"o": {"k": "v", "l": [1, {"m": 2}], "n": null}}),
                "o%5Bk%5D=v&o%5Bl%5D%5B0%5D=1&o%5Bl%5D%5B1%5D%5Bm%5D=2",
            ),
            (
                json!({"a": [{"k": 1}, [2]]}),
                "a%5B0%5D%5Bk%5D=1&a%5B1%5D%5B0%5D=2",
            ),
            (json!({"o{}": {"k": 1}}), "o%7B%7D=%7B%22k%22:1%7D"),
            (
                json!({"raw": "", "no": null, "yes": true, "n": 1.5}),
                "raw=&yes=true&n=1.5",
            ),
            (json!({" b ": "1", "a=b": "2"}), "b=1&a%3Db=2"),
        ] {
            assert_eq!(axios_query(&pairs(&query)), expected, "{query}");
        }
    }
}
