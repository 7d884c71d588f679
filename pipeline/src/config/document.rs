//! The parsed file: positions, the collector of problems, and the way in ([`read`], [`load`]).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::problem::{Place, Problem, Problems};
use super::section::Section;

/// Parses `text` and builds the configuration from it.
///
/// `build` gets the root section and reads every key it knows; `Ok` means that the file had no problem at all, so what
/// `build` returned holds no stand-in. `file` is only used in messages.
pub fn read<T>(file: &str, text: &str, build: impl FnOnce(&Section<'_>) -> T) -> Result<T, Problems> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let document = Document::new(file, text);
    let value = {
        let root = Section::root(&document, root.get_ref());
        build(&root)
    };

    let syntax: Problems = errors.iter().map(|error| document.syntax_problem(error)).collect();
    let mut problems = Problems::new();
    for problem in syntax.iter() {
        // One broken token can give several errors; the first says it.
        if problems.iter().all(|told| told.line != problem.line) {
            problems.push(problem.clone());
        }
    }
    for problem in document.found.into_inner() {
        // The parser guesses what a broken line was meant to be; what is said about the guess would only confuse.
        if syntax.iter().all(|broken| broken.line != problem.line) {
            problems.push(problem);
        }
    }
    // What is missing may stand in a broken line.
    if syntax.is_empty() {
        for problem in document.missing.into_inner() {
            problems.push(problem);
        }
    }
    problems.into_result().map(|()| value)
}

/// Every key that `build` asks for, in the file or not, as dotted paths: to see that an example names them all.
pub fn keys<T>(text: &str, build: impl FnOnce(&Section<'_>) -> T) -> BTreeSet<String> {
    let (root, _) = DeTable::parse_recoverable(text);
    let document = Document::new("", text);
    build(&Section::root(&document, root.get_ref()));
    document.asked.into_inner()
}

/// Reads the file and builds the configuration from it, as [`read`] does. A file that can't be read is a problem.
pub fn load<T>(path: &Path, build: impl FnOnce(&Section<'_>) -> T) -> Result<T, Problems> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => read(&file, &text, build),
        Err(error) => {
            let whole_file = Place { file: file.as_str().into(), line: 0, column: 0, path: String::new() };
            Err([whole_file.problem(format!("can't be read: {error}"))].into_iter().collect())
        }
    }
}

/// What all sections of one file share.
pub(super) struct Document<'d> {
    file: Arc<str>,
    text: &'d str,
    found: RefCell<Vec<Problem>>,
    missing: RefCell<Vec<Problem>>,
    asked: RefCell<BTreeSet<String>>,
}

impl<'d> Document<'d> {
    fn new(file: &str, text: &'d str) -> Self {
        let (found, missing, asked) = Default::default();
        Self { file: file.into(), text, found, missing, asked }
    }

    pub(super) fn asked(&self, path: String) {
        self.asked.borrow_mut().insert(path);
    }

    pub(super) fn report(&self, problem: Problem) {
        self.found.borrow_mut().push(problem);
    }

    pub(super) fn report_missing(&self, problem: Problem) {
        self.missing.borrow_mut().push(problem);
    }

    pub(super) fn told(&self) -> usize {
        self.found.borrow().len() + self.missing.borrow().len()
    }

    /// Where the byte range begins, as people count.
    pub(super) fn place(&self, span: &Range<usize>, path: String) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            file: self.file.clone(),
            line: counted(before.matches('\n').count()),
            column: counted(before[line_start..].chars().count()),
            path,
        }
    }

    fn syntax_problem(&self, error: &toml::de::Error) -> Problem {
        let end = self.text.len();
        let place = self.place(&error.span().unwrap_or(end..end), String::new());
        // Only the parser's words, never its excerpt of the file: the line may hold a secret.
        match error.message().split_once(", expected ") {
            Some((message, expected)) => place.problem(message).expected(expected),
            None => place.problem(error.message()),
        }
    }
}

/// As people count, from 1.
fn counted(before: usize) -> u32 {
    u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
}
