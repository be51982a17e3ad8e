//! Which text format of the metrics a scraper takes.

use axum::http::{HeaderMap, header};

/// The media type of `OpenMetrics`, without its parameters.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// Whether `Accept` names `OpenMetrics`, and does not prefer plain text to it. Prometheus names
/// both with their weights; curl and others that take anything get plain text.
pub(super) fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let ranges = accepted.filter_map(|value| value.to_str().ok());
    let ranges: Vec<(&str, f32)> = ranges.flat_map(|text| text.split(',')).map(range).collect();
    let weight = |wanted: &str| {
        let named = ranges
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, weight)| *weight).fold(0.0, f32::max)
    };
    let open_metrics = weight(OPEN_METRICS);
    open_metrics > 0.0 && open_metrics >= weight("text/plain")
}

/// A media range and its weight.
fn range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q="));
    (
        name,
        weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_who_names_it_and_does_not_prefer_plain_text() {
        for (accept, wanted) in [
            ("*/*", false),
            ("text/plain", false),
            ("application/openmetrics-text", true),
            (
                "Application/OpenMetrics-Text; version=1.0.0; charset=utf-8",
                true,
            ),
            (
                "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                true,
            ),
            (
                "application/openmetrics-text;q=0.3, text/plain;q=0.5",
                false,
            ),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=x", false),
            ("text/html, application/xml;q=0.9", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(wants_open_metrics(&headers), wanted, "{accept}");
        }
        assert!(!wants_open_metrics(&HeaderMap::new()));
    }
}
