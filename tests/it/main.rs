//! Behaviour of the daemon, each test against a real one on port 0 and a scripted CRM over real
//! HTTP.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::pedantic,
    reason = "tests"
)]

mod support;

mod abuse;
mod adversary;
mod answers;
mod before_pages;
mod budget;
mod clients;
mod clio;
mod cluster;
mod commands;
mod commands_batch;
mod commands_connector;
mod commands_messages;
mod commands_setup;
mod connector_attacks;
mod connector_files;
mod credentials;
mod deploy;
mod doors;
mod example_crm;
mod examples;
mod explain;
mod failures;
mod fairness;
mod faults;
mod flights;
mod freshness;
mod hostile_crm;
mod house;
mod http;
mod identity;
mod isolation;
mod leaks;
mod lifecycle;
mod logs;
mod lookup_log;
mod many_numbers;
mod matches;
mod names_first;
mod numbers;
mod old_answers;
mod operations;
mod outbound;
mod pages;
mod phone_engines;
mod phone_matches;
mod pipedrive;
mod plan;
mod prefetch;
mod proto;
mod proxy;
mod redis_tier;
mod refusal_log;
mod reload;
mod replicas;
mod settings;
mod shared_login;
mod soak;
mod spelling_order;
mod status_page;
mod stumbles;
mod tiers;
mod tls;
mod tokens;
mod tracing;
mod trust;
mod unreachable;
mod verified_calls;
mod watch;
