//! What the configuration says of snapshots: the section `[snapshots]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use pipeline::config::{SecretRef, Section, kinds};
use pipeline::schedule::Schedule;
use pipeline::snapshot::{Coding, StoreSettings};

use super::windows::DayRule;

/// The job's name: for requests, health and metrics.
pub const NAME: &str = "snapshots";

/// Everything the section says.
#[derive(Debug, Clone)]
pub struct SnapshotSettings {
    /// Where they are kept.
    pub store: StoreSettings,
    /// When one is due; `None`: only when somebody asks.
    pub schedule: Option<Schedule>,
    /// The deepest window.
    pub max_depth: u32,
    /// How days are counted back.
    pub days: DayRule,
    /// Which depths have objects of their own.
    pub materialise: Materialise,
    /// How JSON is compressed: one object each.
    pub codings: Vec<Coding>,
    /// 1 to 9.
    pub gzip_level: u32,
    /// 1 to 19.
    pub zstd_level: u32,
    /// How many generations are kept.
    pub keep: usize,
    /// Objects that no manifest names are kept so long: somebody may be about to publish them.
    pub grace: Duration,
    /// Where files lie while one is made; `None`: below the process's folder.
    pub scratch: Option<PathBuf>,
    /// So much of a topic is held in memory to be sorted, in bytes.
    pub sort_memory: usize,
    /// A dataset whose date lies further behind is told of.
    pub stale_after: Duration,
    /// When all keys are compared and more than so many percent would be deleted, nothing is.
    pub sweep_percent: u8,
    /// By the name under which they are served.
    pub datasets: BTreeMap<String, DatasetSettings>,
}

/// Which depths have objects of their own; the others are joined while they are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Materialise {
    /// Each, as the original has it.
    All,
    /// These.
    Depths(BTreeSet<u32>),
    /// None.
    Nothing,
}

impl Materialise {
    /// Whether this depth has.
    pub(super) fn wants(&self, depth: u32) -> bool {
        match self {
            Self::All => true,
            Self::Depths(depths) => depths.contains(&depth),
            Self::Nothing => false,
        }
    }
}

/// One dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetSettings {
    /// What it is made from.
    pub topic: String,
    /// The fields of its JSON records, in order; `None`: all.
    pub fields: Option<Vec<String>>,
    /// Where such a field has another name in the topic: name in JSON -> field of the topic.
    pub renamed: BTreeMap<String, String>,
    /// Fields of text that hold a JSON value.
    pub json_fields: BTreeSet<String>,
    /// Dates that are shown as moments.
    pub as_datetime: BTreeSet<String>,
    /// Moments that are shown on the clock of a zone.
    pub offset_zone: BTreeMap<String, Tz>,
    /// When a record changed, by its own account: the first of these that has a value.
    pub changed_by: Vec<String>,
    /// That alone, as the original has it.
    pub strict: bool,
    /// Whether fields without a value are shown as null.
    pub nulls: bool,
    /// The names of the key's parts; `None`: as the catalogue has them.
    pub key_fields: Option<Vec<String>>,
}

impl DatasetSettings {
    /// All of a topic, by the defaults.
    pub fn of(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            fields: None,
            renamed: BTreeMap::new(),
            json_fields: BTreeSet::new(),
            as_datetime: BTreeSet::new(),
            offset_zone: BTreeMap::new(),
            changed_by: vec!["updated_at".into(), "inserted_at".into()],
            strict: false,
            nulls: false,
            key_fields: None,
        }
    }
}

impl SnapshotSettings {
    /// Reads the section; `None`: the store isn't right, which was reported.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let store = StoreSettings::read(section);
        let max_depth = section.integer("max_depth", 1..=366).or(30);
        let days = section.zone("calendar").optional().map_or(DayRule::Rolling, DayRule::Calendar);
        let materialise = materialise(section, max_depth);
        let codings = section
            .list("codings", coding())
            .check(|codings| match codings.is_empty() {
                true => Err("names none: the API would have nothing to serve".into()),
                false => Ok(()),
            })
            .or(vec![Coding::Identity, Coding::Gzip]);
        let datasets = section
            .sections("datasets")
            .into_iter()
            .map(|(name, section)| {
                if !is_plain(&name) {
                    let problem = section.own_place().problem("can't be the name of a dataset");
                    section
                        .report(problem.expected("letters, digits, - and _: folders and objects are named after it"));
                }
                let settings = dataset(&section);
                (name, settings)
            })
            .collect();
        Some(Self {
            schedule: section.schedule(Tz::UTC),
            max_depth,
            days,
            materialise,
            codings: codings.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
            gzip_level: section.integer("gzip_level", 1..=9).or(4),
            zstd_level: section.integer("zstd_level", 1..=19).or(3),
            keep: section.integer("keep", 1..=10_000).or(7),
            grace: section.duration("grace").or(Duration::from_secs(24 * 3600)),
            scratch: section.path("scratch").optional(),
            sort_memory: usize::try_from(section.bytes("sort_memory").or(32 << 20)).unwrap_or(32 << 20),
            stale_after: section.duration("stale_after").or(Duration::from_secs(36 * 3600)),
            sweep_percent: section.integer("sweep_percent", 0..=100).or(50),
            datasets,
            store: store?,
        })
    }

    /// For these datasets, with the defaults.
    pub fn of(store: StoreSettings, datasets: BTreeMap<String, DatasetSettings>) -> Self {
        Self {
            store,
            schedule: None,
            max_depth: 30,
            days: DayRule::Rolling,
            materialise: Materialise::All,
            codings: vec![Coding::Identity, Coding::Gzip],
            gzip_level: 4,
            zstd_level: 3,
            keep: 7,
            grace: Duration::from_secs(24 * 3600),
            scratch: None,
            sort_memory: 32 << 20,
            stale_after: Duration::from_secs(36 * 3600),
            sweep_percent: 50,
            datasets,
        }
    }

    /// The secrets it needs.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        self.store.secrets()
    }

    /// The topics it reads.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.datasets.values().map(|dataset| dataset.topic.as_str())
    }

    /// Where files lie while one is made or compared with its topics, each time in a folder of its own; `folder` is the process's.
    pub fn scratch_below(&self, folder: &Path) -> PathBuf {
        self.scratch.as_deref().unwrap_or(folder).join("snapshot-scratch")
    }

    /// The level that goes with a coding.
    pub(super) fn level(&self, coding: Coding) -> u32 {
        match coding {
            Coding::Identity => 0,
            Coding::Gzip => self.gzip_level,
            Coding::Zstd => self.zstd_level,
        }
    }
}

fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !name.is_empty() && name.len() <= 100 && name.chars().all(allowed)
}

fn materialise(section: &Section<'_>, max_depth: u32) -> Materialise {
    let by_name = section.one_of("materialise", &[("all", Materialise::All), ("none", Materialise::Nothing)]);
    let depths = section.list("materialise_depths", kinds::integer(1..=max_depth)).optional();
    if section.has("materialise") && section.has("materialise_depths") {
        let problem = section.place("materialise_depths").problem("given together with `materialise`");
        section.report(problem.expected("one of the two"));
    }
    match depths {
        Some(depths) => Materialise::Depths(depths.into_iter().collect()),
        None => by_name.or(Materialise::All),
    }
}

fn coding() -> pipeline::config::Kind<'static, Coding> {
    kinds::one_of(&[("identity", Coding::Identity), ("gzip", Coding::Gzip), ("zstd", Coding::Zstd)])
}

fn dataset(section: &Section<'_>) -> DatasetSettings {
    let topic = section.string("topic").required();
    let default = DatasetSettings::of(&topic);
    let set = |names: Vec<String>| names.into_iter().collect();
    DatasetSettings {
        fields: section.strings("fields").optional(),
        renamed: section.string_map("renamed").or_default(),
        json_fields: set(section.strings("json_fields").or_default()),
        as_datetime: set(section.strings("as_datetime").or_default()),
        offset_zone: section.zone_map("offset_zone").or_default(),
        changed_by: section.strings("changed_by").or(default.changed_by),
        strict: section.bool("strict").or(false),
        nulls: section.one_of("nulls", &[("omit", false), ("show", true)]).or(false),
        key_fields: section.strings("key_fields").optional(),
        topic,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use pipeline::config::{Problems, read};

    use super::*;

    fn section(text: &str) -> Result<SnapshotSettings, Problems> {
        let text = format!("[snapshots]\n{text}");
        let settings = read("muster.toml", &text, |root| SnapshotSettings::read(&root.section("snapshots")?))?;
        Ok(settings.unwrap())
    }

    #[test]
    fn little_need_be_said() {
        let settings =
            section("store.local.path = \"snapshots\"\ndatasets.employees.topic = \"prm.employee\"").unwrap();
        let StoreSettings::Local { path } = &settings.store else { panic!("a folder") };
        let silent = SnapshotSettings::of(StoreSettings::Local { path: path.clone() }, settings.datasets.clone());
        assert_eq!(format!("{settings:?}"), format!("{silent:?}"));
        assert_eq!(settings.datasets["employees"], DatasetSettings::of("prm.employee"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = [
            ("max_depth = 0", "max_depth"),
            ("codings = [\"brotli\"]", "codings[0]"),
            ("codings = []", "codings"),
            ("materialise = \"some\"", "materialise"),
            ("materialise = \"all\"\nmaterialise_depths = [1]", "materialise_depths"),
            ("max_depth = 5\nmaterialise_depths = [6]", "materialise_depths[0]"),
            ("calendar = \"Europe/Kiew\"", "calendar"),
            ("datasets.employees.fields = [\"id\"]", "datasets.employees"),
            ("datasets.\"../wards\".topic = \"prm.ward\"", "datasets.\"../wards\""),
            ("datasets.\"\".topic = \"prm.ward\"", "datasets.\"\""),
            ("datasets.e = { topic = \"t\", offset_zone = { changed_at = \"Kyiv\" } }", "offset_zone.changed_at"),
        ];
        for (text, place) in wrong {
            let told = section(&format!("store.local.path = \"snapshots\"\n{text}")).unwrap_err().to_string();
            assert!(told.contains(place), "{text}: {told}");
        }
        let told = section("datasets.employees.topic = \"prm.employee\"").unwrap_err().to_string();
        assert!(told.contains("store.local"), "{told}");
    }
}
