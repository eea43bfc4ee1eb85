use crate::fake::Fake;
use crate::schedule::Pool;
use std::sync::Arc;
#[derive(Clone)]
pub(crate) struct Slot(pub(crate) Arc<Pool<Fake>>);
impl Slot {
    pub(crate) fn is_retired(&self) -> bool {
        self.0.is_retired()
    }
}
