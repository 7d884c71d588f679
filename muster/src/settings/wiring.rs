//! Compares the components with each other: names, and who writes and reads which topics. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::config::{Place, Problem, Section};
use schemas::{Catalogue, Profile};
use sinks::snapshot::SnapshotSettings;

use super::{Sink, Source};

/// What is wrong between components.
#[derive(Debug, Default)]
pub(super) struct Wiring {
    /// Nothing can run like this.
    pub problems: Vec<Problem>,
    /// What nothing in this file uses; another process may.
    pub warnings: Vec<Problem>,
}

/// A component, as far as the others have to do with it.
struct Component {
    /// As in `source ats`.
    what: String,
    place: Place,
    /// What health and metrics call it, its feeds included.
    names: Vec<String>,
    reads: Vec<String>,
    writes: Vec<String>,
    /// Named in the file, not there by default.
    chosen: bool,
}

/// Groups are called after components; this one is taken.
const TASKS: &str = "tasks";

pub(super) fn compare(
    sources: &[Source],
    processors: &[String],
    root: &Section<'_>,
    sinks: &[Sink],
    snapshots: Option<&SnapshotSettings>,
    catalogue: &Catalogue,
) -> Wiring {
    let mut components = components(sources, processors, root, sinks, catalogue);
    components.extend(snapshots.map(|snapshots| of_snapshots(snapshots, sources, root)));
    let mut wiring = Wiring::default();
    one_writer(&components, &mut wiring);
    one_name(&components, &mut wiring);
    used(&components, &mut wiring);
    foreign_milestones(sources, catalogue, &mut wiring);
    wiring
}

/// Milestones that others write in the register are inputs of the applicants' groups: they must be keyed and spread as
/// applicants are.
fn foreign_milestones(sources: &[Source], catalogue: &Catalogue, wiring: &mut Wiring) {
    let Some(entity) = catalogue.entity(processors::FOREIGN_MILESTONE) else { return };
    let writes = |source: &&Source| source.from.topics().iter().any(|topic| topic == processors::FOREIGN_MILESTONE);
    let Some(source) = sources.iter().find(writes) else { return };
    let is_by_applicant =
        entity.group_fields == 1 && entity.key_fields.first().is_some_and(|key| key == "applicant_id");
    if !is_by_applicant || !entity.key_fields.iter().any(|key| key == "id") {
        let message = format!("{} isn't keyed by the applicant", processors::FOREIGN_MILESTONE);
        let expected = "key = [\"applicant_id\", \"id\"] and partition_key = [\"applicant_id\"]";
        wiring.problems.push(source.place.problem(message).expected(expected));
    }
    let topic = catalogue.topic(processors::FOREIGN_MILESTONE);
    if topic.is_some_and(|topic| topic.partitions(Profile::Production) == 1) {
        let message = format!("{} has one partition, and applicants have many", processors::FOREIGN_MILESTONE);
        wiring.problems.push(source.place.problem(message).expected("no `spread = \"one\"`"));
    }
}

fn components(
    sources: &[Source],
    processors: &[String],
    root: &Section<'_>,
    sinks: &[Sink],
    catalogue: &Catalogue,
) -> Vec<Component> {
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<String>>();
    let mut components = Vec::new();
    for source in sources {
        let writes = source.from.topics();
        components.push(Component {
            what: format!("source {}", source.name),
            place: source.place.clone(),
            names: std::iter::once(source.name.clone()).chain(writes.clone()).collect(),
            reads: Vec::new(),
            writes,
            chosen: true,
        });
    }
    let known = processors::all(catalogue);
    for name in processors {
        let Some(processor) = known.iter().find(|processor| processor.name() == name) else { continue };
        components.push(Component {
            what: format!("processor {name}"),
            place: root.place("processors"),
            names: vec![name.clone()],
            reads: owned([processor.inputs(), processor.tables()].concat()),
            writes: owned(processor.outputs().to_vec()),
            chosen: root.has("processors"),
        });
    }
    for sink in sinks {
        components.push(Component {
            what: format!("sink {}", sink.name),
            place: sink.place.clone(),
            names: vec![sink.name.clone()],
            reads: owned(sink.to.topics()),
            writes: Vec::new(),
            chosen: true,
        });
    }
    components
}

/// The job that writes snapshots reads topics, too. Those that the catalogue doesn't know are somebody else's.
fn of_snapshots(snapshots: &SnapshotSettings, sources: &[Source], root: &Section<'_>) -> Component {
    let written: Vec<String> = sources.iter().flat_map(|source| source.from.topics()).collect();
    let is_written = |topic: &str| written.iter().any(|other| other == topic);
    let known = |topic: &&str| schemas::catalogue().topic(topic).is_some() || is_written(topic);
    Component {
        what: "the section snapshots".into(),
        place: root.place("snapshots"),
        names: vec![sinks::snapshot::NAME.to_owned()],
        reads: snapshots.topics().filter(known).map(str::to_owned).collect(),
        writes: Vec::new(),
        chosen: true,
    }
}

/// A topic is its writer's memory: two would undo each other's changes for ever.
fn one_writer(components: &[Component], wiring: &mut Wiring) {
    let mut writers: BTreeMap<&str, &Component> = BTreeMap::new();
    for component in components {
        let mut shared: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for topic in &component.writes {
            match writers.get(topic.as_str()) {
                Some(first) => shared.entry(&first.what).or_default().push(topic),
                None => {
                    writers.insert(topic, component);
                }
            }
        }
        for (first, topics) in shared {
            let message = format!("{} writes {}, as {first} does", component.what, topics.join(", "));
            wiring.problems.push(component.place.problem(message).expected("one writer for each topic"));
        }
    }
}

/// Names are groups, headers and labels of metrics: each stands for one component.
fn one_name(components: &[Component], wiring: &mut Wiring) {
    let mut taken: BTreeMap<&str, &Component> = BTreeMap::new();
    for component in components {
        for name in &component.names {
            if name == TASKS {
                let message = format!("`{TASKS}` is the name of what shares sources out among processes");
                wiring.problems.push(component.place.problem(message).expected("another name"));
            }
            match taken.get(name.as_str()) {
                // Two of a kind with a common topic have been told of.
                Some(first) if first.writes.contains(name) && component.writes.contains(name) => {}
                Some(first) if first.what == component.what => {}
                Some(first) => {
                    let whose = if first.writes.contains(name) {
                        format!("a feed of {}", first.what)
                    } else {
                        first.what.clone()
                    };
                    let message = format!("`{name}` is also the name of {whose}");
                    let expected = "a name that no other source, feed, processor or sink has";
                    wiring.problems.push(component.place.problem(message).expected(expected));
                }
                None => {
                    taken.insert(name, component);
                }
            }
        }
    }
}

fn used(components: &[Component], wiring: &mut Wiring) {
    let written: BTreeSet<&String> = components.iter().flat_map(|component| &component.writes).collect();
    let read: BTreeSet<&String> = components.iter().flat_map(|component| &component.reads).collect();
    for component in components.iter().filter(|component| component.chosen) {
        let of_nobody = |topics: &[String], others: &BTreeSet<&String>| {
            topics.iter().filter(|topic| !others.contains(topic)).map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        let unread = of_nobody(&component.writes, &read);
        if !unread.is_empty() {
            let message = format!("{} writes {unread}, which nothing in this file reads", component.what);
            wiring.warnings.push(component.place.problem(message));
        }
        let unwritten = of_nobody(&component.reads, &written);
        if !unwritten.is_empty() {
            let message = format!("{} reads {unwritten}, which nothing in this file writes", component.what);
            wiring.warnings.push(component.place.problem(message));
        }
    }
}
