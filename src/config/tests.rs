use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_faults(text in "\\PC{0,200}") {
        if let Err(faults) = read(&text, []) {
            prop_assert!(!faults.is_empty());
        }
    }

    #[test]
    fn any_value_of_any_key_is_read_or_refused_at_its_path(
        key in prop::sample::select(vec![
            "grpc.listen", "grpc.max_in_flight", "ops.listen", "cache.memory", "cache.found.fresh", "redis.url",
            "redis.key_prefix", "lookup.timeout", "connectors.a.base_url", "connectors.a.allowed_hosts",
            "connectors.a.quota.rate", "connectors.a.quota.per", "connectors.a.quota.prefetch_share",
        ]),
        value in "\\PC{0,40}",
    ) {
        let name = format!("{}{}", section::ENV_PREFIX, key.replace('.', "__").to_ascii_uppercase());
        let sound = "[connectors.a]\nkind = \"example\"\nbase_url = \"http://127.0.0.1:1\"\n";
        if let Err(faults) = read(sound, [(name, value)]) {
            let section = key.split('.').next().unwrap_or(key);
            prop_assert!(faults.iter().all(|fault| fault.path.starts_with(section)), "{faults:?}");
        }
    }
}
