//! Findings: what was measured, against what, and whether that is good enough. As JSON and as a table.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::rounds::Spread;

/// One line of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    /// What was measured.
    pub what: String,
    /// What it was measured against in the same run; empty: nothing.
    pub against: String,
    /// How much, in `unit`; `None`: it couldn't be measured here, and the note says why.
    pub figure: Option<Spread>,
    /// Of the figures.
    pub unit: String,
    /// The same of what it was measured against.
    pub compared: Option<Spread>,
    /// How many times as good as that.
    pub ratio: Option<Spread>,
    /// What is wanted.
    pub goal: Option<Goal>,
    /// What a reader must know to take it rightly.
    pub note: String,
}

/// What is wanted of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The ratio's median is at least so much.
    RatioAtLeast(f64),
    /// The ratio's median, of times here, is at most so much.
    RatioAtMost(f64),
    /// The figure's median is at least so much.
    AtLeast(f64),
    /// The figure's median is at most so much.
    AtMost(f64),
}

/// What one benchmark has found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The benchmark.
    pub name: String,
    /// Where.
    pub machine: Machine,
    /// The day, UTC.
    pub day: String,
    /// Its findings.
    pub findings: Vec<Finding>,
}

impl Finding {
    /// A figure without anything beside it.
    pub fn alone(what: impl Into<String>, figure: Spread, unit: &str) -> Self {
        Self {
            what: what.into(),
            against: String::new(),
            figure: Some(figure),
            unit: unit.to_owned(),
            compared: None,
            ratio: None,
            goal: None,
            note: String::new(),
        }
    }

    /// A figure beside that of something else, of the same run.
    pub fn beside(
        what: impl Into<String>,
        against: impl Into<String>,
        (figure, compared): (Spread, Spread),
        unit: &str,
        ratio: Spread,
    ) -> Self {
        let alone = Self::alone(what, figure, unit);
        Self { against: against.into(), compared: Some(compared), ratio: Some(ratio), ..alone }
    }

    /// What couldn't be measured here, and why.
    pub fn missing(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { figure: None, note: why.into(), ..Self::alone(what, Spread::exactly(0.0), "") }
    }

    /// What is wanted of it.
    pub fn wants(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// What a reader must know.
    pub fn noting(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Whether what is wanted is there; `None`: nothing is wanted, or nothing was measured.
    pub fn met(&self) -> Option<bool> {
        let figure = self.figure?.median;
        Some(match self.goal? {
            Goal::RatioAtLeast(least) => self.ratio?.median >= least,
            Goal::RatioAtMost(most) => self.ratio?.median <= most,
            Goal::AtLeast(least) => figure >= least,
            Goal::AtMost(most) => figure <= most,
        })
    }
}

impl Report {
    /// Keeps it in `folder`, in place of the one before.
    pub fn keep(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let text = serde_json::to_string_pretty(self)? + "\n";
        let file = folder.join(format!("{}.json", self.name));
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// All that are kept, in the order of `names`.
    pub fn kept(folder: &Path, names: &[&str]) -> Result<Vec<Self>> {
        let files: Vec<PathBuf> = names.iter().map(|name| folder.join(format!("{name}.json"))).collect();
        let there = files.into_iter().filter(|file| file.exists());
        there
            .map(|file| {
                let text = std::fs::read_to_string(&file)?;
                serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
            })
            .collect()
    }
}

/// The table, in Markdown, with the machines below.
pub fn markdown(reports: &[Report]) -> String {
    let mut text = String::from("| what | figure | against | ratio | goal | met |\n|---|---|---|---|---|---|\n");
    for finding in reports.iter().flat_map(|report| &report.findings) {
        line(&mut text, finding);
    }
    text.push('\n');
    for Report { name, machine, day, .. } in reports {
        // Writing into a string can't fail.
        let _ = writeln!(text, "- `{name}`: {day}, load before {:.1}, {}", machine.load_before, machine.line());
    }
    text
}

fn line(text: &mut String, finding: &Finding) {
    let Finding { what, against, figure, unit, compared, ratio, goal, note } = finding;
    let figure = figure.map_or_else(|| "not measured".to_owned(), |figure| format!("{} {unit}", spread(figure)));
    let against = match compared {
        Some(compared) => format!("{against}: {}", spread(*compared)),
        None => against.clone(),
    };
    let ratio = ratio.map_or_else(String::new, |ratio| format!("{} x", spread(ratio)));
    let goal = match goal {
        Some(Goal::RatioAtLeast(least)) => format!(">= {} x", number(*least)),
        Some(Goal::RatioAtMost(most)) => format!("<= {} x", number(*most)),
        Some(Goal::AtLeast(least)) => format!(">= {} {unit}", number(*least)),
        Some(Goal::AtMost(most)) => format!("<= {} {unit}", number(*most)),
        None => String::new(),
    };
    let met = match finding.met() {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    };
    let what = if note.is_empty() { what.clone() } else { format!("{what} ({note})") };
    // Writing into a string can't fail.
    let _ = writeln!(text, "| {what} | {figure} | {against} | {ratio} | {goal} | {met} |");
}

fn spread(spread: Spread) -> String {
    let Spread { median, low, high } = spread;
    if low == high { number(median) } else { format!("{} ({}-{})", number(median), number(low), number(high)) }
}

/// Three figures, thousands apart.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        let left = whole.len() - place;
        if place > 0 && left.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if rest.is_empty() { grouped } else { format!("{grouped}.{rest}") }
}

/// Replaces what stands between the two marks in a page.
pub fn into_page(page: &Path, table: &str) -> Result<()> {
    const BEGIN: &str = "<!-- results -->\n";
    const END: &str = "<!-- end of results -->";
    let text = std::fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("{} has no {BEGIN}", page.display()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{} has no {END}", page.display()))?;
    std::fs::write(page, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?;
    Ok(())
}
