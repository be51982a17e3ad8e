//! Requests that a browser sends on behalf of a web page.

use http::{HeaderMap, header};

/// Returns whether a browser sent the request on behalf of a web page. Otherwise any page that
/// somebody reads could call a daemon that their machine can reach.
pub(crate) fn from_a_page(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    sites.any(|site| site != "none") || headers.contains_key(header::ORIGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_in_any_line_of_its_headers() {
        for (lines, expected) in [
            (&[][..], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-origin")], true),
            (
                &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
                true,
            ),
            (&[("origin", "null")], true),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            assert_eq!(from_a_page(&headers), expected, "{lines:?}");
        }
    }
}
