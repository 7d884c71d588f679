//! What an answer is made of: which bytes of which objects, and what is done to them on the way. Pure.

use std::io;

use pipeline::snapshot::list::BETWEEN;
use pipeline::snapshot::splice::{Stretch, splice};
use pipeline::snapshot::{Coding, Dataset, Form, Object, Set};

use super::envelope::TAIL;
use super::negotiate::Shape;

/// An answer, before anything is read.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) stretches: Vec<Stretch>,
    /// What stretches of objects are decompressed from.
    pub(super) decode: Option<Coding>,
    /// Whether the commas between records go.
    pub(super) lines: bool,
    /// How long it will be.
    pub(super) bytes: u64,
}

/// Where records come from, and how they are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codings {
    /// As they are stored.
    pub(super) stored: Coding,
    /// As they are answered.
    pub(super) answered: Coding,
}

/// The sets of a dataset that an answer is made of. Where depth windows are stored whole in one form and in parts in another,
/// each form has its own.
pub(super) fn sets(dataset: &Dataset, depth: Option<u32>, form: Form) -> Option<Vec<&Set>> {
    let sets = dataset.sets(depth)?;
    let has_form = |set: &&Set| set.objects.iter().any(|object| object.form == form);
    if sets.iter().all(has_form) {
        return Some(sets);
    }
    let upto = dataset.windows.iter().position(|window| Some(window.depth) == depth)?;
    let parts: Vec<&Set> = dataset.windows[..=upto].iter().map(|window| &window.part).collect();
    if parts.iter().all(has_form) { Some(parts) } else { Some(sets) }
}

/// The coding that JSON of these sets is read in, to be answered in `answered`; `None`: it can't be had.
pub(super) fn stored(sets: &[&Set], answered: Coding) -> Option<Coding> {
    let in_all = |coding: &Coding| sets.iter().all(|set| set.object(Form::Json, *coding).is_some());
    // Nothing is compressed while it is answered.
    let of =
        if answered == Coding::Identity { &[Coding::Identity, Coding::Gzip, Coding::Zstd][..] } else { &[answered] };
    of.iter().copied().find(in_all)
}

/// An answer in JSON or NDJSON. `head` begins JSON.
///
/// # Errors
/// The manifest contradicts itself.
pub(super) fn records(shape: Shape, codings: Codings, head: &[u8], sets: &[&Set]) -> io::Result<Plan> {
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "the manifest lacks an object that it had");
    let lists: Vec<&Object> =
        sets.iter().map(|set| set.object(Form::Json, codings.stored).ok_or_else(missing)).collect::<io::Result<_>>()?;
    let lines = shape == Shape::Ndjson;
    let records: u64 = sets.iter().map(|set| set.records).sum();
    let (head, tail) = match shape {
        Shape::Ndjson if records == 0 => (&b""[..], &b""[..]),
        Shape::Ndjson => (&b""[..], &b"\n"[..]),
        _ => (head, TAIL),
    };
    let decode = (codings.stored != codings.answered).then_some(codings.stored);
    let (stretches, mut bytes) = match decode {
        None => {
            let stretches = splice(codings.answered, head, &lists, tail)?;
            let bytes = stretches.iter().map(Stretch::bytes).sum();
            (stretches, bytes)
        }
        Some(_) => decoded(head, &lists, tail)?,
    };
    if lines {
        // A comma stands between each two records.
        let commas = records.saturating_sub(1);
        bytes = bytes.checked_sub(commas).ok_or_else(|| contradiction("it has more records than bytes"))?;
    }
    Ok(Plan { stretches, decode, lines, bytes })
}

/// As `splice`, of lists that are decompressed while they are read.
fn decoded(head: &[u8], lists: &[&Object], tail: &[u8]) -> io::Result<(Vec<Stretch>, u64)> {
    let mut stretches = vec![Stretch::Bytes(head.to_vec().into())];
    let mut bytes = (head.len() + tail.len()) as u64;
    for list in lists {
        let items = list.items.ok_or_else(|| contradiction("it doesn't say where the records of a list are"))?;
        if items.start > items.end || items.end > list.bytes {
            return Err(contradiction("a list's records aren't inside of it"));
        }
        if items.plain_bytes == 0 {
            continue;
        }
        if stretches.len() > 1 {
            stretches.push(Stretch::Bytes(BETWEEN.into()));
            bytes += BETWEEN.len() as u64;
        }
        stretches.push(Stretch::Of { path: list.path.clone(), range: items.start..items.end });
        bytes = bytes.checked_add(items.plain_bytes).ok_or_else(|| contradiction("a list is too long"))?;
    }
    stretches.push(Stretch::Bytes(tail.to_vec().into()));
    Ok((stretches, bytes))
}

fn contradiction(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the manifest contradicts itself: {what}"))
}

/// Part of an object as it is stored.
pub(super) fn raw(object: &Object, range: std::ops::Range<u64>) -> Plan {
    let bytes = range.end - range.start;
    let stretches = vec![Stretch::Of { path: object.path.clone(), range }];
    Plan { stretches, decode: None, lines: false, bytes }
}
