//! How many files this process may have open, and what that leaves for exports.

use api::export::ExportOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The log, databases, metrics, libraries.
const OTHERS: u64 = 256;

/// A connection's socket, and the files that an answer keeps open.
const EACH: u64 = 1 + api::export::OPEN_FILES as u64;

/// Raises the system's limit as far as this process may, and lowers the number of connections where that isn't enough: one
/// that waits is better than one that fails in the middle.
pub fn fit(options: &mut ExportOptions) {
    let (most, answers) = fitting(raised(), options.connections.most, options.limits.answers);
    if (most, answers) != (options.connections.most, options.limits.answers) {
        tracing::warn!(
            connections = most,
            answers,
            "the limit of open files allows no more connections at a time (raise it: `ulimit -Hn`, `LimitNOFILE`, `nofile`)"
        );
    }
    (options.connections.most, options.limits.answers) = (most, answers);
}

/// The limit, as high as it can be had; `None`: there is none.
fn raised() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(error = %error, "the limit of open files isn't raised");
            limit.current
        }
    }
}

/// As many connections and answers as there can be files for.
fn fitting(limit: Option<u64>, connections: u32, answers: u32) -> (u32, u32) {
    let Some(limit) = limit else { return (connections, answers) };
    let room = limit.saturating_sub(OTHERS);
    let files = u64::from(answers) * (EACH - 1);
    if u64::from(connections) + files <= room {
        return (connections, answers);
    }
    let fit = u32::try_from((room / EACH).max(1)).unwrap_or(u32::MAX);
    // Answers hold most of the files: connections that wait for one cost little.
    let answers = answers.min(fit);
    let left = room.saturating_sub(u64::from(answers) * (EACH - 1)).max(1);
    (connections.min(u32::try_from(left).unwrap_or(u32::MAX)), answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_answers_fit_into_the_files_there_may_be() {
        assert_eq!(fitting(None, 2_048, 1_024), (2_048, 1_024));
        assert_eq!(fitting(Some(1 << 20), 2_048, 1_024), (2_048, 1_024));
        for limit in [1_024, 4_096, 5_000] {
            let (connections, answers) = fitting(Some(limit), 2_048, 1_024);
            let files = u64::from(connections) + u64::from(answers) * (EACH - 1);
            assert!(
                files + OTHERS <= limit && connections >= answers && answers > 100,
                "{limit}: {connections}, {answers}"
            );
        }
        assert_eq!(fitting(Some(10), 2_048, 1_024), (1, 1));
    }

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        let raised = raised();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, raised), (now.maximum, now.maximum));
    }
}
