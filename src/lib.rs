#![doc = include_str!("ARCHITECTURE.md")]

// The modules are in the order of their numbers in ARCHITECTURE.md. A module may use only modules
// with a lower number; tests/it/house.rs names the exceptions.
pub mod pb;

pub mod domain;

pub mod clock;
mod frames;
pub mod metrics;
mod proto_json;
pub mod redis_link;
mod share;
mod trace;
mod urgency;

pub mod admission;
mod budget;
pub mod cache;
mod clients;
mod flight;
pub mod lease;

pub mod connector;

mod resolver;

mod api;
mod plan;
mod trial;

pub mod grpc;
mod http;
mod ops;

pub mod app;
pub mod config;
mod lifecycle;
pub mod telemetry;
mod tls;

pub mod example_crm;

pub mod cli;

// For tests and cargo-fuzz only; it sees all modules.
#[cfg(any(test, fuzzing))]
pub mod fuzz;
