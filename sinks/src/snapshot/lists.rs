//! The JSON of one dataset: lists in every coding, how they are stored, and how several become one.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use pipeline::snapshot::list::{ListWriter, Listed};
use pipeline::snapshot::splice::{Stretch, join};
use pipeline::snapshot::{Coding, Form, Object};

use super::SnapshotError;
use super::config::SnapshotSettings;
use super::upload::{Upload, Uploads};

/// Where a dataset's objects are called.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// As in `data/00000042-5f3c9e1a/employees`.
    pub folder: String,
}

impl Names {
    pub fn json(&self, name: &str, coding: Coding) -> String {
        format!("{}/{name}.json{}", self.folder, coding.ending())
    }

    pub fn parquet(&self, name: &str) -> String {
        format!("{}/{name}.parquet", self.folder)
    }
}

/// The same records as a list in every coding, while they pass by.
pub(super) struct Lists<W: Write> {
    lists: Vec<(Coding, ListWriter<W>)>,
}

impl<W: Write> Lists<W> {
    /// `open` says where the list in a coding goes.
    pub fn new(
        settings: &SnapshotSettings,
        open: impl Fn(Coding) -> Result<W, SnapshotError>,
    ) -> Result<Self, SnapshotError> {
        let mut lists = Vec::with_capacity(settings.codings.len());
        for coding in &settings.codings {
            let list = ListWriter::new(*coding, settings.level(*coding), open(*coding)?).map_err(scratch_error)?;
            lists.push((*coding, list));
        }
        Ok(Self { lists })
    }

    /// Adds so many records as they were rendered.
    pub fn push(&mut self, json: &[u8], records: usize) -> io::Result<()> {
        for (_, list) in &mut self.lists {
            list.push_items(json, records as u64)?;
        }
        Ok(())
    }

    /// Ends them.
    pub fn finish(self) -> io::Result<Vec<(Coding, W, Listed)>> {
        let mut finished = Vec::with_capacity(self.lists.len());
        for (coding, list) in self.lists {
            let (out, listed) = list.finish()?;
            finished.push((coding, out, listed));
        }
        Ok(finished)
    }
}

impl Lists<Upload> {
    /// Ends them, and stores them.
    pub fn store(self) -> io::Result<Vec<Object>> {
        let mut objects = Vec::new();
        for (coding, upload, listed) in self.finish()? {
            objects.push(upload.finish(Form::Json, coding, Some(listed.items))?);
        }
        Ok(objects)
    }
}

/// Stores the lists of several windows as one, by copying their bytes. `copy_of` says where an object's bytes lie here.
pub(super) fn store_joined(
    uploads: &Uploads,
    lists: &[&Object],
    copy_of: impl Fn(&str) -> PathBuf,
    path: &str,
    coding: Coding,
) -> Result<Object, SnapshotError> {
    let joined = join(coding, lists).map_err(scratch_error)?;
    let mut upload = uploads.begin(path)?;
    for stretch in &joined.stretches {
        match stretch {
            Stretch::Bytes(bytes) => upload.write_all(bytes),
            Stretch::Of { path, range } => copy(&copy_of(path), range, &mut upload),
        }
        .map_err(scratch_error)?;
    }
    upload.finish(Form::Json, coding, Some(joined.items)).map_err(scratch_error)
}

fn copy(file: &Path, range: &Range<u64>, to: &mut impl Write) -> io::Result<()> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut from = BufReader::with_capacity(1 << 20, file).take(range.end - range.start);
    let copied = io::copy(&mut from, to)?;
    if copied == range.end - range.start { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

pub(super) fn scratch_error(source: io::Error) -> SnapshotError {
    SnapshotError::Scratch { source }
}
