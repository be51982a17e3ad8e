//! The budgets of all connectors.

use std::sync::Arc;

use crate::budget::Budget;

/// By connector.
pub(super) type Budgets = Vec<(String, Arc<Budget>)>;
