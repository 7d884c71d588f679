use std::sync::{Arc, Mutex};

use super::*;

fn morning() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(8)
}

/// Three sleepers who note when they woke.
fn sleepers(clock: &VirtualClock, seconds: [u64; 3]) -> (Arc<Mutex<Vec<i64>>>, Vec<tokio::task::JoinHandle<()>>) {
    let woken = Arc::new(Mutex::new(Vec::new()));
    let tasks = seconds.map(|seconds| {
        let (clock, woken) = (clock.clone(), woken.clone());
        tokio::spawn(async move {
            clock.sleep(Duration::from_secs(seconds)).await;
            let time = (clock.now() - morning()).num_seconds();
            woken.lock().unwrap_or_else(|error| error.into_inner()).push(time);
        })
    });
    (woken, tasks.into())
}

fn noted(woken: &Mutex<Vec<i64>>) -> Vec<i64> {
    woken.lock().unwrap_or_else(|error| error.into_inner()).clone()
}

#[tokio::test]
async fn a_manual_clock_moves_when_told_and_wakes_in_order() {
    let clock = VirtualClock::manual(morning());
    let (woken, _tasks) = sleepers(&clock, [30, 10, 20]);
    clock.until_sleeping(3).await;

    clock.advance(Duration::from_secs(25)).await;
    assert_eq!(noted(&woken), [10, 20]);
    assert_eq!(clock.now(), morning() + TimeDelta::seconds(25));

    assert!(clock.advance_to_next_sleeper().await);
    assert_eq!(noted(&woken), [10, 20, 30]);
    assert!(!clock.advance_to_next_sleeper().await);
}

#[tokio::test]
async fn a_sleeper_who_gave_up_is_forgotten() {
    let clock = VirtualClock::manual(morning());
    let (_, tasks) = sleepers(&clock, [10, 20, 30]);
    clock.until_sleeping(3).await;
    tasks[0].abort();
    while !tasks[0].is_finished() {
        tokio::task::yield_now().await;
    }

    clock.advance_to_next_sleeper().await;
    assert_eq!(clock.now(), morning() + TimeDelta::seconds(20));
}

#[tokio::test]
async fn a_clock_set_back_delays_times_but_not_lengths() {
    let clock = VirtualClock::manual(morning());
    let (by_time, by_length) = (clock.clone(), clock.clone());
    let by_time = tokio::spawn(async move { by_time.sleep_until(morning() + TimeDelta::seconds(60)).await });
    let by_length = tokio::spawn(async move { by_length.sleep(Duration::from_secs(60)).await });
    clock.until_sleeping(2).await;

    clock.set(morning() - TimeDelta::seconds(100));
    clock.advance(Duration::from_secs(60)).await;
    assert!(by_length.await.is_ok());
    assert!(!by_time.is_finished());

    clock.until_sleeping(1).await;
    clock.advance(Duration::from_secs(100)).await;
    assert!(by_time.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_automatic_clock_moves_when_all_wait() {
    let clock = VirtualClock::automatic(morning());
    let (woken, tasks) = sleepers(&clock, [3000, 1000, 2000]);
    for task in tasks {
        assert!(task.await.is_ok());
    }
    assert_eq!(noted(&woken), [1000, 2000, 3000]);

    clock.sleep_until(morning() + TimeDelta::days(30)).await;
    assert_eq!(clock.now(), morning() + TimeDelta::days(30));
}

#[tokio::test(start_paused = true)]
async fn the_system_clock_does_not_wait_for_the_past() {
    SystemClock.sleep_until(Utc::now() - TimeDelta::hours(1)).await;
}
