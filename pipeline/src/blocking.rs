//! Work that may keep its thread for longer than a few milliseconds: large steps of the local stores, and of deriving.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does `work` here, and lets the other tasks of this thread go on elsewhere meanwhile, where there are other threads.
pub(crate) fn run<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::mpsc;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_only_thread_is_not_kept_from_the_others() {
        let (ask, asked) = mpsc::channel();
        let work = tokio::spawn(async move { super::run(|| asked.recv_timeout(Duration::from_secs(20))) });
        let answer = tokio::spawn(async move { ask.send("done") });
        // Without `block_in_place` the one thread waits for an answer that only it could give.
        assert_eq!(work.await.unwrap(), Ok("done"));
        answer.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_just_works() {
        assert_eq!(super::run(|| 7), 7);
    }
}
