//! What every log must do, on three brokers of which one after the other is killed and comes back: leaders and group
//! coordinators move while the suite runs, and now and then a broker is missing.

use std::time::Duration;

use anyhow::{Context, Result};
use services::Brokers;
use tokio::sync::{OnceCell, oneshot, watch};

use super::setting::options;
use super::suite::OnKafka;

/// The cluster, and how many of its brokers have been killed so far.
#[derive(Clone)]
struct Troubled {
    bootstrap: String,
    killed: watch::Receiver<u32>,
}

/// The cluster that all behaviours share; `None` where it can't be had.
async fn cluster() -> Option<Troubled> {
    static CLUSTER: OnceCell<Option<Troubled>> = OnceCell::const_new();
    CLUSTER
        .get_or_init(|| async {
            let (told, started) = oneshot::channel();
            // Tests have runtimes of their own, which end; this one goes on as long as there are tests.
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let brokers = Brokers::own().await.unwrap();
                    let (kills, killed) = watch::channel(0);
                    let troubled = brokers.as_ref().map(|brokers| Troubled { bootstrap: brokers.bootstrap(), killed });
                    told.send(troubled).ok().unwrap();
                    if let Some(brokers) = brokers {
                        trouble(&brokers, &kills).await.unwrap();
                    }
                });
            });
            started.await.unwrap()
        })
        .await
        .clone()
}

/// Kills one broker after the other, for ever. The next one goes only when the last is back.
async fn trouble(brokers: &Brokers, kills: &watch::Sender<u32>) -> Result<()> {
    let mut rng = fastrand::Rng::new();
    loop {
        // Whatever is under way is cut at a random moment.
        tokio::time::sleep(Duration::from_millis(rng.u64(500..3_000))).await;
        let broker = rng.usize(..3);
        brokers.kill(broker).await?;
        kills.send_modify(|killed| *killed += 1);
        tokio::time::sleep(Duration::from_millis(rng.u64(0..6_000))).await;
        brokers.restart(broker).await.with_context(|| format!("broker {broker}"))?;
    }
}

/// Each behaviour begins when a broker has just been killed.
async fn harness() -> Option<OnKafka> {
    let Troubled { bootstrap, mut killed } = cluster().await?;
    let mut patient = options(&bootstrap);
    // A lost broker's partitions move within seconds; on a busy machine it takes longer.
    patient.limits.append_within = Duration::from_secs(60);
    patient.limits.request_within = Duration::from_secs(30);
    let log = OnKafka::connect(patient, bootstrap, 3).await;
    killed.mark_unchanged();
    killed.changed().await.expect("brokers go on being killed");
    Some(log)
}

mod core {
    use super::harness;

    pipeline::core_log_tests! { [ignore = "takes minutes: cargo xtask ci --all"]
        match harness().await {
            Some(harness) => std::future::ready(harness),
            None => return,
        }
    }
}

mod groups {
    use super::harness;

    pipeline::group_log_tests! { [ignore = "takes minutes: cargo xtask ci --all"]
        match harness().await {
            Some(harness) => std::future::ready(harness),
            None => return,
        }
    }
}
