//! What a simulated ATS holds at one moment, and everything that can happen to it. No I/O.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use fastrand::Rng;
use serde_json::Value;

use super::clock::Clock;
use super::dates::{self, LocalMs};
use super::edits;
use super::generate::Recipe;
use super::masters::Masters;
use super::query::ApplicantsQuery;
use super::random::stream;
use super::rows::{Rows, sample};
use super::{AtsOptions, Drift, Endpoint, Planted};

const EDITS: u64 = 0xed17;
const DRIFT: u64 = 0xd41f;

#[derive(Debug)]
pub(crate) struct State {
    zone: Tz,
    clock: Clock,
    rows: Rows,
    masters: Masters,
    edits: Rng,
    /// Makes each edit's text differ from all before.
    serial: u64,
    drift: Drifting,
}

#[derive(Debug)]
struct Drifting {
    drift: Option<Drift>,
    rng: Rng,
    pages: u32,
    rounds: u32,
}

impl State {
    pub(crate) fn generate(options: &AtsOptions) -> State {
        let masters = Masters::generate(options.seed, options.applicants);
        // Nobody has the memory for more.
        let count = u32::try_from(options.applicants).unwrap_or(u32::MAX);
        let recipe = Recipe::new(options, count, masters.clone());
        State::with(options, Rows::generate(recipe, count, options.order), masters)
    }

    pub(crate) fn from_feed(applicants: &[Value], options: &AtsOptions) -> State {
        let masters = Masters::from_feed(applicants);
        let recipe = Recipe::new(options, 0, masters.clone());
        let now = dates::local(options.now, options.zone);
        State::with(options, Rows::recorded(recipe, applicants, options.order, now), masters)
    }

    fn with(options: &AtsOptions, rows: Rows, masters: Masters) -> State {
        State {
            zone: options.zone,
            clock: Clock::starting(options.now, options.ticking),
            rows,
            masters,
            edits: stream(options.seed, EDITS, 0),
            serial: 0,
            drift: Drifting { drift: options.drift, rng: stream(options.seed, DRIFT, 0), pages: 0, rounds: 0 },
        }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) fn set_now(&mut self, now: DateTime<Utc>) {
        self.clock.set(now);
    }

    pub(crate) fn advance(&mut self, by: TimeDelta) {
        self.clock.advance(by);
    }

    pub(crate) fn set_drift(&mut self, drift: Option<Drift>) {
        self.drift.drift = drift;
        self.drift.pages = 0;
        self.drift.rounds = 0;
    }

    pub(crate) fn masters(&self) -> &Masters {
        &self.masters
    }

    pub(crate) fn set_master(&mut self, endpoint: Endpoint, rows: Vec<Value>) -> bool {
        let Some(list) = self.masters.list_mut(endpoint) else { return false };
        *list = rows;
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn applicants(&mut self) -> Vec<Value> {
        self.rows.all()
    }

    pub(crate) fn applicant(&self, id: &str) -> Option<Value> {
        Some(self.rows.value(self.rows.find(id)?))
    }

    /// The rows of a page as JSON texts. Afterwards the rows may drift.
    pub(crate) fn page(&mut self, query: &ApplicantsQuery) -> Vec<String> {
        let page = self.rows.page(&query.filter, query.offset, query.size);
        self.drift_after_page();
        page
    }

    pub(crate) fn change_some(&mut self, count: usize) -> Vec<String> {
        let mut rng = self.edits.fork();
        self.change(count, &mut rng)
    }

    pub(crate) fn add_applicant(&mut self) -> String {
        let now = self.local_now();
        key_of(&self.rows.add_newcomer(now))
    }

    pub(crate) fn remove_applicant(&mut self, id: &str) -> bool {
        let Some(at) = self.rows.find(id) else { return false };
        self.rows.remove(at);
        true
    }

    pub(crate) fn remove_milestone(&mut self, id: &str, index: usize) -> Option<Value> {
        let at = self.rows.find(id)?;
        let mut applicant = self.rows.value(at);
        let milestones = applicant.get_mut("milestones")?.as_array_mut()?;
        if index >= milestones.len() {
            return None;
        }
        let removed = milestones.remove(index);
        let now = self.local_now();
        edits::touch(&mut applicant, now);
        self.rows.replace(at, &applicant, now);
        Some(removed)
    }

    pub(crate) fn replace_raw(&mut self, id: &str, value: &Value) -> bool {
        let Some(at) = self.rows.find(id) else { return false };
        let now = self.local_now();
        self.rows.replace(at, value, now);
        true
    }

    pub(crate) fn add_raw(&mut self, value: &Value) {
        let now = self.local_now();
        self.rows.add(value, now);
    }

    pub(crate) fn planted(&self) -> Planted {
        let pairs = self.rows.repeated_ats1_ids();
        let mut superseded = Vec::new();
        for at in self.rows.with_repeated_milestone() {
            let applicant = self.rows.value(at);
            let mut seen: BTreeMap<_, usize> = BTreeMap::new();
            for key in applicant["milestones"].as_array().into_iter().flatten().filter_map(edits::key) {
                *seen.entry(key).or_default() += 1;
            }
            let repeated = seen.into_iter().filter(|(_, times)| *times > 1);
            superseded.extend(repeated.map(|((milestone, _), _)| (key_of(&applicant), milestone)));
        }
        Planted {
            repeated_ats1_ids: pairs.iter().map(|(one, other)| (one.to_string(), other.to_string())).collect(),
            superseded_milestones: superseded,
        }
    }

    fn local_now(&self) -> LocalMs {
        dates::local(self.clock.now(), self.zone)
    }

    fn change(&mut self, count: usize, rng: &mut Rng) -> Vec<String> {
        let now = self.local_now();
        let mut changed = Vec::new();
        for at in sample(rng, self.rows.len(), self.rows.len()) {
            if changed.len() == count {
                break;
            }
            let mut applicant = self.rows.value(at);
            self.serial += 1;
            if edits::edit(&mut applicant, &self.masters, now, self.serial, rng) {
                self.rows.replace(at, &applicant, now);
                changed.push(key_of(&applicant));
            }
        }
        changed
    }

    fn drift_after_page(&mut self) {
        let Some(drift) = self.drift.drift else { return };
        self.drift.pages += 1;
        let due = self.drift.pages.is_multiple_of(drift.every.max(1));
        let over = drift.rounds.is_some_and(|rounds| self.drift.rounds >= rounds);
        if !due || over {
            return;
        }
        self.drift.rounds += 1;
        let mut rng = self.drift.rng.fork();
        for _ in 0..drift.removed.min(self.rows.len()) {
            self.rows.remove(rng.usize(..self.rows.len()));
        }
        self.change(drift.changed, &mut rng);
        for _ in 0..drift.inserted {
            self.add_applicant();
        }
        let now = self.local_now();
        for at in sample(&mut rng, self.rows.len(), drift.reordered) {
            let mut applicant = self.rows.value(at);
            edits::touch(&mut applicant, now);
            self.rows.replace(at, &applicant, now);
        }
    }
}

/// The applicant's id as the register keys it: lower case. Empty when there is none.
fn key_of(applicant: &Value) -> String {
    applicant["applicant_id"].as_str().unwrap_or_default().to_ascii_lowercase()
}
