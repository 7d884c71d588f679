//! Somebody who changes the recruiting system all the while, and remembers which records were made unreadable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use serde_json::{Value, json};
use simulators::ats::{Ats, Endpoint};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// So many records are unreadable at most: they are planted and repaired in turn.
const MOST_BAD: usize = 4;

/// The clerk. Works until told to rest.
pub struct Clerk {
    ats: Ats,
    book: Arc<Mutex<Book>>,
    working: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

struct Book {
    rng: Rng,
    /// Unreadable records by applicant, and what they are when repaired.
    bad: BTreeMap<String, Value>,
    planted: u32,
    edits: u64,
}

impl Clerk {
    /// At rest.
    pub fn new(ats: Ats, seed: u64) -> Self {
        let book = Book { rng: Rng::with_seed(seed), bad: BTreeMap::new(), planted: 0, edits: 0 };
        Self { ats, book: Arc::new(Mutex::new(book)), working: None }
    }

    /// Edits at random moments from now on.
    pub fn work(&mut self) {
        if self.working.is_some() {
            return;
        }
        let (rest, mut told) = watch::channel(false);
        let (ats, book) = (self.ats.clone(), Arc::clone(&self.book));
        let task = tokio::spawn(async move {
            loop {
                let pause = {
                    let mut book = open(&book);
                    book.edit(&ats);
                    book.rng.u64(10..300)
                };
                // Clerks think between two edits; nothing waits for this.
                if tokio::time::timeout(Duration::from_millis(pause), told.changed()).await.is_ok() {
                    return;
                }
            }
        });
        self.working = Some((rest, task));
    }

    /// Puts the pen down; returns when the last edit is made.
    pub async fn rest(&mut self) -> Result<()> {
        if let Some((rest, task)) = self.working.take() {
            rest.send_replace(true);
            task.await.context("the clerk fell ill")?;
        }
        Ok(())
    }

    /// The readable applicants.
    pub fn readable(&self) -> Vec<Value> {
        let book = open(&self.book);
        let is_readable = |one: &Value| {
            let id = one["applicant_id"].as_str().unwrap_or_default().to_lowercase();
            !book.bad.contains_key(&id)
        };
        self.ats.applicants().into_iter().filter(is_readable).collect()
    }

    /// The applicants whose records can't be read.
    pub fn unreadable(&self) -> Vec<String> {
        open(&self.book).bad.keys().cloned().collect()
    }

    /// How many edits there have been.
    pub fn edits(&self) -> u64 {
        open(&self.book).edits
    }
}

fn open(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    fn edit(&mut self, ats: &Ats) {
        self.edits += 1;
        match self.rng.u32(0..100) {
            0..80 => drop(ats.change_some(self.rng.usize(1..=6))),
            80..88 => drop(ats.add_applicant()),
            88..94 => self.take_a_milestone(ats),
            94..96 => self.plant(ats),
            96..98 => self.repair(ats),
            _ => self.rename(ats),
        }
    }

    fn take_a_milestone(&mut self, ats: &Ats) {
        for id in ats.change_some(1) {
            let Some(applicant) = ats.applicant(&id) else { continue };
            let count = applicant["milestones"].as_array().map_or(0, Vec::len);
            if count > 1 {
                ats.remove_milestone(&id, self.rng.usize(..count));
            }
        }
    }

    /// A newcomer whose record can't be read. It was never readable, so the register mustn't have it.
    fn plant(&mut self, ats: &Ats) {
        let like = ats.change_some(1).into_iter().next().and_then(|id| ats.applicant(&id));
        let (Some(mut good), true) = (like, self.bad.len() < MOST_BAD) else { return };
        self.planted += 1;
        let id = format!("0d9d3c52-6a1f-4f7e-9a55-{:012x}", self.planted);
        good["applicant_id"] = json!(id);
        good["ats1_id"] = json!(9_000_000 + self.planted);
        good["registration_date"] = json!("2026-05-01T09:00:00");
        let mut bad = good.clone();
        bad["registration_date"] = json!("the first of May");
        ats.add_raw(bad);
        self.bad.insert(id, good);
    }

    fn repair(&mut self, ats: &Ats) {
        if let Some((id, good)) = self.bad.pop_first() {
            ats.replace_raw(&id, good);
        }
    }

    /// Everything that names it is derived again.
    fn rename(&mut self, ats: &Ats) {
        let masters = ats.masters();
        let (endpoint, mut rows) = match self.rng.u32(0..3) {
            0 => (Endpoint::Reasons, masters.reasons),
            1 => (Endpoint::HealthAuthorities, masters.health_authorities),
            _ => (Endpoint::Staff, masters.staff),
        };
        if rows.is_empty() {
            return;
        }
        let at = self.rng.usize(..rows.len());
        rows[at]["name"] = json!(format!("Name {}", self.edits));
        ats.set_master(endpoint, rows);
    }
}
