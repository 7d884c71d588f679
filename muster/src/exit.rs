//! Exit codes: 0 done, 1 failed, 2 configuration wrong, 3 something outside is unreachable.

use pipeline::config::Problems;
use pipeline::log::LogError;
use pipeline::operations::OperationsError;
use pipeline::run::RunError;
use pipeline::sink::SinkError;
use pipeline::snapshot::StoreError;
use pipeline::source::SourceError;
use pipeline::state::StateError;
use producers::SourceSetupError;
use schemas::RegistryError;
use simulators::prm::PrmError;
use sinks::SinkSetupError;
use sinks::snapshot::SnapshotError;

/// Done.
pub const DONE: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// The configuration is wrong.
pub const CONFIG: u8 = 2;
/// Something outside is unreachable.
pub const UNREACHABLE: u8 = 3;

/// What an error means for whoever started the program.
pub fn code_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        let secret_is_missing = matches!(cause.downcast_ref(), Some(SourceSetupError::Secret(_)))
            || matches!(cause.downcast_ref(), Some(SinkSetupError::Secret(_)));
        if cause.is::<Problems>() || secret_is_missing {
            return CONFIG;
        }
        let store = match (cause.downcast_ref(), cause.downcast_ref()) {
            (Some(error), _) | (_, Some(SnapshotError::Store(error))) => Some(error),
            _ => None,
        };
        match store {
            Some(StoreError::Secret(_)) => return CONFIG,
            Some(StoreError::Unavailable { .. }) => return UNREACHABLE,
            _ => {}
        }
        let unreachable = matches!(cause.downcast_ref(), Some(LogError::Unavailable { .. }))
            || matches!(cause.downcast_ref(), Some(StateError::Log(LogError::Unavailable { .. })))
            || matches!(cause.downcast_ref(), Some(SinkError::Unavailable { .. } | SinkError::Contended { .. }))
            || matches!(cause.downcast_ref(), Some(SourceError::Unavailable { .. }))
            || matches!(cause.downcast_ref(), Some(OperationsError::Away(_)))
            || matches!(cause.downcast_ref(), Some(StoreError::Unavailable { .. }))
            || matches!(cause.downcast_ref(), Some(RegistryError::Unavailable { .. }))
            || matches!(cause.downcast_ref(), Some(PrmError::Unreachable(_)))
            || cause.downcast_ref::<RunError>().is_some_and(|error| error.can_pass().is_some());
        if unreachable {
            return UNREACHABLE;
        }
    }
    FAILED
}
