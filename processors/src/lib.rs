//! Processors: pure functions from inputs to target entities. One file per verb.
//!
//! Each implements [`pipeline::processor::Processor`] and is driven by the runner; none does I/O, reads a clock or
//! knows another. To add one: a file here, its topics in the catalogue, its rules as cases in `golden/`.

mod applicants;
mod decode;
mod masters;
mod users;

pub use applicants::{Applicants, ApplicantsInput, ApplicantsTables, FOREIGN_MILESTONE, ForeignMilestone};
pub use masters::{OneToOne, health_authorities, reasons, statuses};
pub use users::Users;

/// Every processor of the program, in the order in which they are drained. What `catalogue` has beside the built-in topics
/// may be an input: see [`Applicants::with_foreign`].
pub fn all(catalogue: &schemas::Catalogue) -> Vec<std::sync::Arc<dyn pipeline::run::AnyProcessor>> {
    use std::sync::Arc;
    let with_foreign = catalogue.topic(FOREIGN_MILESTONE).is_some();
    vec![
        Arc::new(statuses()),
        Arc::new(reasons()),
        Arc::new(health_authorities()),
        Arc::new(Users),
        Arc::new(Applicants { with_foreign }),
    ]
}
