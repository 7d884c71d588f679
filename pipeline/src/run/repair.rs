//! Repairs on request: whoever owns a partition states keys of it again.

use schemas::Key;

use super::RunError;
use crate::change::Version;
use crate::emitter::{Emitter, Restate};
use crate::state::Answer;

/// Beyond this a version leaves no room for those to come.
const HIGHEST: i64 = i64::MAX / 2;

/// States keys of an owned partition again. The answer says how many.
pub(super) async fn repair(
    emitter: &mut Emitter,
    partition: u32,
    keys: &[(String, Option<Version>)],
) -> Result<Answer, RunError> {
    let mut wanted = Vec::with_capacity(keys.len());
    for (key, above) in keys {
        let key = Key::from(key.as_str());
        let surpassable = above.is_none_or(|above| above.0 < HIGHEST);
        if surpassable && emitter.partition_of(&key) == partition {
            wanted.push(Restate { key, above: *above });
        }
    }
    let stated = emitter.restate(&wanted).await?;
    let left = keys.len() as u64 - stated;
    let topic = emitter.topic().name.clone();
    tracing::info!(topic, partition, keys = stated, "keys were stated again on request");
    let text = match left {
        0 => format!("{topic}: {stated} keys stated again"),
        _ => format!("{topic}: {stated} keys stated again; {left} hold versions that nothing can surpass"),
    };
    let details = serde_json::json!({ "topic": topic, "partition": partition, "stated": stated, "left": left });
    Ok(Answer { done: left == 0, text, details })
}
