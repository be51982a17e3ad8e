//! The text format 0.0.4 of Prometheus, made from the `OpenMetrics` text.
//!
//! prometheus-client writes `OpenMetrics` only. For the metrics of this program, the two formats
//! differ in two points: here the name of a counter has its suffix `_total` in the comments too,
//! and the last line is missing.

/// The same page in the other format.
pub(super) fn from_open_metrics(page: &str) -> String {
    let counters: Vec<&str> = page.lines().filter_map(counter).collect();
    let mut plain = String::with_capacity(page.len());
    for line in page.lines().filter(|line| *line != "# EOF") {
        plain.push_str(&renamed(line, &counters).unwrap_or_else(|| line.to_owned()));
        plain.push('\n');
    }
    plain
}

/// The name of the counter whose type this line states.
fn counter(line: &str) -> Option<&str> {
    line.strip_prefix("# TYPE ")?.strip_suffix(" counter")
}

/// The line with the sample's name, if it is a comment about a counter.
fn renamed(line: &str, counters: &[&str]) -> Option<String> {
    let (keyword, rest) = line.strip_prefix("# ")?.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    counters
        .contains(&name)
        .then(|| format!("# {keyword} {name}_total {rest}"))
}

#[cfg(test)]
mod tests {
    use super::from_open_metrics;

    #[test]
    fn counters_keep_their_suffix_in_comments_and_the_rest_stays() {
        let page = "# HELP a_calls Calls.\n# TYPE a_calls counter\na_calls_total{x=\"# EOF\"} 1\n\
                    # HELP a_size Size.\n# TYPE a_size gauge\na_size 2\n# EOF\n";
        let plain = "# HELP a_calls_total Calls.\n# TYPE a_calls_total counter\na_calls_total{x=\"# EOF\"} 1\n\
                     # HELP a_size Size.\n# TYPE a_size gauge\na_size 2\n";
        assert_eq!(from_open_metrics(page), plain);
    }
}
