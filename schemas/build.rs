//! Lists the released schemas in `released/<system>/<entity>/<version>.*`, so that releasing one needs no other edit.

use std::{env, error::Error, fmt::Write, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("released");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut found = Vec::new();
    for system in names(&root)? {
        for entity in names(&root.join(&system))? {
            for file in names(&root.join(&system).join(&entity))? {
                if let Some(version) = file.strip_suffix(".avsc") {
                    found.push((
                        format!("{system}.{entity}"),
                        version.parse::<u32>()?,
                        root.join(&system).join(&entity),
                    ));
                }
            }
        }
    }
    found.sort();
    let mut list = "static RELEASED: &[Released] = &[\n".to_owned();
    for (topic, version, folder) in found {
        let file = |ending: &str| folder.join(format!("{version}.{ending}"));
        writeln!(
            list,
            "Released {{ topic: {topic:?}, version: {version}, text: include_str!({:?}), \
             message: include_bytes!({:?}), meaning: include_str!({:?}) }},",
            file("avsc"),
            file("message"),
            file("json")
        )?;
    }
    list.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("released.rs"), list)?;
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().map_err(|name| format!("{} isn't UTF-8", name.display()))?;
        // Git keeps no empty folders; a placeholder may stand in one.
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}
