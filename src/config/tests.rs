use proptest::prelude::*;

use super::*;
use crate::budget::{Quotas, Scope};

proptest! {
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

fn quotas_of(quota: &str) -> Result<Quotas, Vec<String>> {
    let read = read(
        &format!("[connectors.a]\nkind = \"pipedrive\"\nquota = {{ {quota} }}\n"),
        [],
    );
    let read = read.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(read.config.connectors[0].quotas)
}

#[test]
fn what_is_said_of_a_quota_holds_for_the_documented_ones_of_one_kind_of_call_as_well() {
    let quotas = quotas_of("burst = 4, prefetch_share = 0.2, scope = \"account\"").unwrap();
    for quota in [quotas.all, quotas.search.unwrap()] {
        assert_eq!(
            (quota.rate().get(), quota.per()),
            (10, Duration::from_secs(2))
        );
        assert_eq!(
            (quota.burst().get(), quota.prefetch_share(), quota.scope()),
            (4, 0.2, Scope::Account)
        );
    }
    let quotas = quotas_of("search = { rate = 3 }").unwrap();
    assert_eq!(
        quotas
            .search
            .map(|own| (own.rate().get(), own.burst().get())),
        Some((3, 3))
    );
    assert_eq!(
        quotas_of("rate = 40, per = \"2s\"").unwrap().search,
        None,
        "a limit that is given is of all calls"
    );
    let apart = quotas_of("rate = 40, per = \"2s\", other = { rate = 5 }").unwrap();
    assert_eq!(
        apart.other.map(|own| (own.rate().get(), own.per())),
        Some((5, Duration::from_secs(2)))
    );
    let faults = quotas_of("search = { scope = \"account\" }").unwrap_err();
    assert!(
        faults.len() == 1 && faults[0].starts_with("connectors.a.quota.search.scope: "),
        "{faults:?}"
    );
}
