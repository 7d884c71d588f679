//! Shows what a long pass is doing: a line for each feed, processor and sink, on a terminal. Elsewhere the log says it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use pipeline::run::Health;
use tokio_util::sync::CancellationToken;

/// Often enough to look alive.
const REDRAW: Duration = Duration::from_millis(100);

/// Watches until told to stop, where there is a terminal to show it on.
pub async fn watch(health: Arc<Health>, stop: CancellationToken) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let lines = MultiProgress::new();
    let mut bars: BTreeMap<String, ProgressBar> = BTreeMap::new();
    loop {
        for (name, records) in health.all_records() {
            let bar = bars.entry(name).or_insert_with_key(|name| {
                let style = ProgressStyle::with_template("{spinner} {prefix:<28} {msg}");
                let bar = lines.add(ProgressBar::new_spinner());
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar.set_prefix(name.clone());
                bar
            });
            bar.set_message(format!("{} records", HumanCount(records)));
            bar.tick();
        }
        tokio::select! {
            () = tokio::time::sleep(REDRAW) => {}
            () = stop.cancelled() => break,
        }
    }
    for bar in bars.values() {
        bar.finish_and_clear();
    }
}
