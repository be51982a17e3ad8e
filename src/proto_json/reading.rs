//! Where a text is read, and why the reading ended.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::Error;
use serde_json::error::Category;

/// What stands for the path of the message itself.
pub(super) const WHOLE: &str = "request";

/// Why a text is not a request. Contains no value of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonFault {
    /// The path of the field, with the names of the proto: `user.account_id`.
    pub(crate) field: String,
    /// Continues a sentence that begins with the path.
    pub(crate) what: String,
}

/// More values than any accepted request has: 10,000 numbers, and what may stand beside them. In
/// memory a value takes hundreds of times the two bytes that it may have in the text.
const MOST_VALUES: u32 = 20_000;

/// The position in a text, and the fault that ended the reading.
#[derive(Debug, Default)]
pub(super) struct Reading {
    values: Cell<u32>,
    /// Not reduced after a fault: it then leads to the field.
    path: RefCell<Vec<Step>>,
    fault: RefCell<Option<JsonFault>>,
}

#[derive(Debug)]
pub(super) enum Step {
    Field(String),
    Item(usize),
}

impl Reading {
    /// Ends the reading at the current field.
    pub(super) fn fault<E: Error>(&self, what: impl fmt::Display) -> E {
        let fault = JsonFault {
            field: self.field(),
            what: what.to_string(),
        };
        self.fault.borrow_mut().get_or_insert(fault);
        E::custom("refused")
    }

    /// Counts a value.
    pub(super) fn count<E: Error>(&self) -> Result<(), E> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > MOST_VALUES {
            let what = "has more entries than any request may have".to_owned();
            let field = WHOLE.to_owned();
            self.fault
                .borrow_mut()
                .get_or_insert(JsonFault { field, what });
            return Err(E::custom("refused"));
        }
        Ok(())
    }

    /// Ends the reading at a field of the current message that does not exist.
    pub(super) fn fault_below<E: Error>(&self, name: String, what: impl fmt::Display) -> E {
        self.path.borrow_mut().push(Step::Field(name));
        self.fault(what)
    }

    /// The path of the current field.
    fn field(&self) -> String {
        let mut path = String::new();
        for step in self.path.borrow().iter() {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => path.extend([".", name]),
                Step::Item(n) => path.push_str(&format!("[{n}]")),
            }
        }
        if path.is_empty() {
            WHOLE.to_owned()
        } else {
            path
        }
    }

    /// Reads a value one step further down.
    pub(super) fn within<T, E>(
        &self,
        step: Step,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.path.borrow_mut().push(step);
        let value = read()?;
        self.path.borrow_mut().pop();
        Ok(value)
    }

    /// The fault of a text that was not read to its end. serde's own words may repeat values, so
    /// only the position is taken from them.
    pub(super) fn explain(&self, error: &serde_json::Error) -> JsonFault {
        if let Some(fault) = self.fault.borrow_mut().take() {
            return fault;
        }
        let what = match error.classify() {
            Category::Eof => "is empty or ends too early".to_owned(),
            _ if error.to_string().starts_with("recursion limit") => {
                "is nested too deeply".to_owned()
            }
            _ => format!(
                "is not JSON: line {}, column {}",
                error.line(),
                error.column()
            ),
        };
        JsonFault {
            field: WHOLE.to_owned(),
            what,
        }
    }
}
