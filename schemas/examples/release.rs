//! Releases the current schema of a topic: `cargo run -p schemas --example release -- ats.staff SAMPLE.json`.
//!
//! Writes `released/<system>/<entity>/<next version>.{avsc,message,json}`: the schema, one message encoded from the
//! sample (a JSON object with invented contents), and what the message means. Commit all three.

use std::{env, error::Error, fs, path::Path};

use schemas::{catalogue, compatibility, content_hash, from_json, to_json};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, sample] = arguments.as_slice() else {
        return Err("expected a topic and the file of a sample record".into());
    };
    let Some(topic) = catalogue().entity(name) else { return Err(format!("no topic of entities {name}").into()) };
    let versions = compatibility::released().iter().filter(|released| released.topic == name);
    let next = versions.map(|released| released.version).max().unwrap_or(0) + 1;

    let record: serde_json::Value = serde_json::from_str(&fs::read_to_string(sample)?)?;
    let message = from_json(&topic.schema, &record).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let meaning = serde_json::json!({
        "hash": content_hash(&topic.schema, &message)?.to_string(),
        "record": to_json(&topic.schema, &message)?,
    });

    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = crate_root.join("avro").join(&topic.system).join(format!("{}.avsc", topic.entity));
    let folder = crate_root.join("released").join(&topic.system).join(&topic.entity);
    fs::create_dir_all(&folder)?;
    fs::copy(schema, folder.join(format!("{next}.avsc")))?;
    fs::write(folder.join(format!("{next}.message")), message)?;
    fs::write(folder.join(format!("{next}.json")), format!("{meaning:#}\n"))?;
    println!("released {name} version {next}");
    Ok(())
}
