//! The JSON of one dataset: the full list, and one for each window, in every coding.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use pipeline::snapshot::list::{ListWriter, Listed};
use pipeline::snapshot::splice::{Stretch, join};
use pipeline::snapshot::{Coding, Form, Object};

use super::SnapshotError;
use super::config::SnapshotSettings;
use super::upload::{Upload, Uploads};

/// What a scratch file is written and read through.
const BUFFER: usize = 32 << 10;

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

/// The full list of a dataset in every coding, while its rows pass by.
pub(super) struct FullLists {
    lists: Vec<(Coding, ListWriter<Upload>)>,
}

impl FullLists {
    pub fn new(settings: &SnapshotSettings, names: &Names, uploads: &Uploads) -> Result<Self, SnapshotError> {
        let mut lists = Vec::with_capacity(settings.codings.len());
        for coding in &settings.codings {
            let upload = uploads.begin(&names.json("full", *coding))?;
            let list = ListWriter::new(*coding, settings.level(*coding), upload).map_err(scratch_error)?;
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

    pub fn finish(self) -> io::Result<Vec<Object>> {
        let mut objects = Vec::with_capacity(self.lists.len() + 1);
        for (coding, list) in self.lists {
            let (upload, listed) = list.finish()?;
            objects.push(upload.finish(Form::Json, coding, Some(listed.items))?);
        }
        Ok(objects)
    }
}

/// The lists of all windows in every coding, in scratch files, while the rows pass by.
pub(super) struct PartLists {
    codings: Vec<(Coding, u32)>,
    /// By window and coding; made when the first record comes.
    parts: Vec<Vec<Option<ListWriter<BufWriter<File>>>>>,
    scratch: PathBuf,
}

impl PartLists {
    pub fn new(settings: &SnapshotSettings, windows: usize, scratch: &Path) -> Self {
        let codings: Vec<(Coding, u32)> =
            settings.codings.iter().map(|coding| (*coding, settings.level(*coding))).collect();
        let parts = (0..windows).map(|_| codings.iter().map(|_| None).collect()).collect();
        Self { codings, parts, scratch: scratch.to_owned() }
    }

    /// Adds records as they were rendered, each to its window.
    pub fn push(&mut self, json: &[u8], ends: &[usize], windows: &[Option<usize>]) -> io::Result<()> {
        let mut begin = 0;
        for (end, window) in ends.iter().zip(windows) {
            if let Some(window) = window {
                for nth in 0..self.codings.len() {
                    self.part(*window, nth)?.push(&json[begin..*end])?;
                }
            }
            // What is between two records has two bytes.
            begin = end + 2;
        }
        Ok(())
    }

    fn part(&mut self, window: usize, nth: usize) -> io::Result<&mut ListWriter<BufWriter<File>>> {
        let (coding, level) = self.codings[nth];
        let path = self.path(window, coding);
        let open = &mut self.parts[window][nth];
        Ok(match open {
            Some(list) => list,
            None => {
                let file = BufWriter::with_capacity(BUFFER, File::create(path)?);
                open.insert(ListWriter::new(coding, level, file)?)
            }
        })
    }

    fn path(&self, window: usize, coding: Coding) -> PathBuf {
        self.scratch.join(format!("part-{window}.json{}", coding.ending()))
    }

    /// By window and coding: the scratch files.
    pub fn finish(mut self) -> io::Result<Vec<Vec<(PathBuf, Listed)>>> {
        let mut parts = Vec::with_capacity(self.parts.len());
        for window in 0..self.parts.len() {
            let mut of_window = Vec::with_capacity(self.codings.len());
            for nth in 0..self.codings.len() {
                // Windows without records have lists, too.
                self.part(window, nth)?;
                let path = self.path(window, self.codings[nth].0);
                if let Some(list) = self.parts[window][nth].take() {
                    let (file, listed) = list.finish()?;
                    drop(file.into_inner().map_err(io::IntoInnerError::into_error)?);
                    of_window.push((path, listed));
                }
            }
            parts.push(of_window);
        }
        Ok(parts)
    }
}

/// Stores a scratch file as it is.
pub(super) fn store_file(
    uploads: &Uploads,
    file: &Path,
    path: &str,
    form: Form,
    coding: Coding,
    items: Option<pipeline::snapshot::Items>,
) -> Result<Object, SnapshotError> {
    let mut upload = uploads.begin(path)?;
    let mut from = File::open(file).map_err(scratch_error)?;
    io::copy(&mut from, &mut upload).map_err(scratch_error)?;
    upload.finish(form, coding, items).map_err(scratch_error)
}

/// Stores the lists of several windows as one, by copying their bytes. `files` says where an object's bytes still lie here.
pub(super) fn store_joined(
    uploads: &Uploads,
    lists: &[&Object],
    files: &HashMap<String, PathBuf>,
    path: &str,
    coding: Coding,
) -> Result<Object, SnapshotError> {
    let joined = join(coding, lists).map_err(scratch_error)?;
    let mut upload = uploads.begin(path)?;
    for stretch in &joined.stretches {
        copy(stretch, files, &mut upload).map_err(scratch_error)?;
    }
    upload.finish(Form::Json, coding, Some(joined.items)).map_err(scratch_error)
}

fn copy(stretch: &Stretch, files: &HashMap<String, PathBuf>, to: &mut impl Write) -> io::Result<()> {
    let (path, range) = match stretch {
        Stretch::Bytes(bytes) => return to.write_all(bytes),
        Stretch::Of { path, range } => (path, range),
    };
    let file = files.get(path).ok_or_else(|| io::Error::other("a part isn't at hand"))?;
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut from = BufReader::with_capacity(1 << 20, file).take(range.end - range.start);
    let copied = io::copy(&mut from, to)?;
    if copied == range.end - range.start { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

pub(super) fn scratch_error(source: io::Error) -> SnapshotError {
    SnapshotError::Scratch { source }
}
