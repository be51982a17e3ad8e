#![doc = include_str!("ARCHITECTURE.md")]

// Rooms in order: each may use only those above it (tests/it/house.rs).
pub mod pb;

pub mod domain;

pub mod clock;
pub mod frames;
pub mod link;
pub mod metrics;
pub mod share;
pub mod trace;
pub mod urgency;

pub mod admission;
pub mod budget;
pub mod cache;
pub mod callers;
pub mod flight;
pub mod lease;

pub mod connector;

pub mod resolver;

pub mod ops;
pub mod rpc;

pub mod app;
pub mod config;
pub mod lifecycle;
pub mod telemetry;
pub mod tls;

pub mod example_crm;

pub mod cli;
