//! An operation that is not in the list: one of yours, written outside this crate.

use std::sync::Arc;

use super::Operation;

/// An operation of your own. It runs and is differentiated as any other. There is no f64 twin of it in
/// [`crate::reference`], so that compare it with one of your own, as `examples/own_operation.rs` does.
#[derive(Clone, Debug)]
pub struct Own(Arc<dyn Operation>);

impl Own {
    /// The operation as a function of graphs.
    pub fn new(operation: impl Operation + 'static) -> Own {
        Own(Arc::new(operation))
    }

    /// What it is as an operation.
    pub fn operation(&self) -> &dyn Operation {
        &*self.0
    }
}

/// Equal to its clones alone.
impl PartialEq for Own {
    fn eq(&self, other: &Own) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
