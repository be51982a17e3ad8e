//! proto3 JSON of the messages in `proto/`, by their descriptors.
//!
//! Messages are written with all their fields, also those with default values, because App
//! Connect's own objects have them all. Requests are read strictly: an unknown field, a field that
//! is given twice and a value of another type are refused, with the path of the field. No error
//! contains a value of the text.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

use crate::pb;

mod read;
mod reading;
mod structs;
mod write;

pub(crate) use read::from_json;
pub(crate) use reading::JsonFault;
pub(crate) use write::{any_to_json, bytes_to_json, to_json};

/// Empty if the descriptors compiled into this program cannot be read, which the tests exclude.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(pb::DESCRIPTORS).unwrap_or_default());
