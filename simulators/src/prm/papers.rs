//! Diplomas, certificates and specialities, as the contract's sub-objects have them.

use chrono::NaiveDate;
use fastrand::Rng;
use serde::Serialize;

use super::names;
use crate::ats::random::{per_mille, pick};

#[derive(Clone, Debug, Serialize)]
pub(super) struct Education {
    country: &'static str,
    city: String,
    institution_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_date: Option<NaiveDate>,
    diploma_number: String,
    degree: &'static str,
    speciality: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Qualification {
    r#type: &'static str,
    institution_name: String,
    speciality: &'static str,
    issued_date: NaiveDate,
    certificate_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_to: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_info: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Speciality {
    pub(super) speciality: &'static str,
    pub(super) speciality_officio: bool,
    level: &'static str,
    qualification_type: &'static str,
    attestation_name: String,
    attestation_date: NaiveDate,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_to_date: Option<NaiveDate>,
    certificate_number: String,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ScienceDegree {
    country: &'static str,
    city: String,
    degree: &'static str,
    institution_name: String,
    diploma_number: String,
    speciality: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_date: Option<NaiveDate>,
}

/// What a person of a trade can show: `additional_info` of an employee, and the same fields of a party.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Papers {
    pub(super) educations: Vec<Education>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) qualifications: Vec<Qualification>,
    /// Exactly one is `speciality_officio`.
    pub(super) specialities: Vec<Speciality>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) science_degree: Option<ScienceDegree>,
}

/// A trade that needs papers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trade {
    Doctor,
    Specialist,
    Assistant,
    Pharmacist,
}

/// More than so many an employee doesn't list; the oldest that isn't the main one goes.
const MOST_SPECIALITIES: usize = 4;

/// Where the papers name the trade in words.
const IN_WORDS: [&str; 4] = ["Лікувальна справа", "Педіатрія", "Сестринська справа", "Фармація"];

impl Trade {
    fn specialities(self) -> &'static [&'static str] {
        match self {
            Trade::Doctor => &["THERAPIST", "PEDIATRICIAN", "FAMILY_DOCTOR"],
            Trade::Specialist => &["THERAPIST", "PEDIATRICIAN"],
            Trade::Assistant => &["RECEPTIONIST"],
            Trade::Pharmacist => &["PHARMACIST", "PROVISOR", "CLINICAL_PROVISOR"],
        }
    }

    fn in_words(self, rng: &mut Rng) -> &'static str {
        match self {
            Trade::Doctor | Trade::Specialist => IN_WORDS[rng.usize(..2)],
            Trade::Assistant => IN_WORDS[2],
            Trade::Pharmacist => IN_WORDS[3],
        }
    }
}

/// The papers of somebody born in this year.
pub(super) fn papers(rng: &mut Rng, trade: Trade, born: i32) -> Papers {
    let graduated = born + rng.i32(22..26);
    let educations = (0..if per_mille(rng, 150) { 2 } else { 1 }).map(|nth| Education {
        country: "UA",
        city: names::place(rng, &["івка", "град"]),
        institution_name: names::institution(rng),
        issued_date: per_mille(rng, 900).then(|| date_in(rng, graduated + nth * 2)),
        diploma_number: number(rng),
        degree: if nth == 0 { ["MASTER", "BACHELOR", "EXPERT", "JUNIOR_EXPERT"][rng.usize(..4)] } else { "MASTER" },
        speciality: trade.in_words(rng),
    });
    let educations = educations.collect();
    let qualifications = (0..usize::from(per_mille(rng, 350))).map(|_| {
        let issued = date_in(rng, graduated + 2);
        Qualification {
            r#type: ["INTERNSHIP", "SPECIALIZATION", "TOPIC_IMPROVEMENT", "CLINICAL_RESIDENCY"][rng.usize(..4)],
            institution_name: names::institution(rng),
            speciality: trade.in_words(rng),
            issued_date: issued,
            certificate_number: number(rng),
            valid_to: per_mille(rng, 400).then(|| date_in(rng, graduated + 12)),
            additional_info: per_mille(rng, 100).then(|| names::sentence(rng)),
        }
    });
    let qualifications = qualifications.collect();
    let several = if per_mille(rng, 250) { rng.usize(2..=3) } else { 1 };
    let main = rng.usize(..several);
    let specialities =
        (0..several).map(|nth| Speciality { speciality_officio: nth == main, ..speciality(rng, trade, graduated) });
    let specialities = specialities.collect();
    let science_degree = per_mille(rng, if trade == Trade::Doctor { 40 } else { 5 }).then(|| ScienceDegree {
        country: "UA",
        city: names::place(rng, &["івка", "град"]),
        degree: pick_static(rng, &["DOCTOR_OF_SCIENCE", "PH_D", "CANDIDATE_OF_SCIENCE"]),
        institution_name: names::institution(rng),
        diploma_number: number(rng),
        speciality: trade.in_words(rng),
        issued_date: per_mille(rng, 800).then(|| date_in(rng, graduated + 6)),
    });
    Papers { educations, qualifications, specialities, science_degree }
}

/// One more speciality, not the main one.
pub(super) fn speciality(rng: &mut Rng, trade: Trade, graduated: i32) -> Speciality {
    let attested = graduated + rng.i32(1..5);
    Speciality {
        speciality: pick_static(rng, trade.specialities()),
        speciality_officio: false,
        level: ["SECOND", "FIRST", "HIGHEST", "BASIC"][rng.usize(..4)],
        qualification_type: if per_mille(rng, 700) { "AWARDING" } else { "DEFENSE" },
        attestation_name: names::institution(rng),
        attestation_date: date_in(rng, attested),
        valid_to_date: per_mille(rng, 500).then(|| date_in(rng, attested + 5)),
        certificate_number: number(rng),
    }
}

impl Papers {
    /// The main speciality.
    pub(super) fn officio(&self) -> Option<&Speciality> {
        self.specialities.iter().find(|speciality| speciality.speciality_officio)
    }

    /// Adds one, as the main one or beside it.
    pub(super) fn add(&mut self, speciality: Speciality, main: bool) {
        if main {
            self.specialities.iter_mut().for_each(|other| other.speciality_officio = false);
        }
        self.specialities.push(Speciality { speciality_officio: main, ..speciality });
        if self.specialities.len() > MOST_SPECIALITIES
            && let Some(oldest) = self.specialities.iter().position(|one| !one.speciality_officio)
        {
            self.specialities.remove(oldest);
        }
    }
}

fn pick_static(rng: &mut Rng, items: &'static [&'static str]) -> &'static str {
    items[rng.usize(..items.len())]
}

fn number(rng: &mut Rng) -> String {
    format!("{}{:06}", pick(rng, &["АБ", "ВГ", "ДЄ", "XX"]), rng.u32(..1_000_000))
}

fn date_in(rng: &mut Rng, year: i32) -> NaiveDate {
    // Always there: no month has fewer days.
    NaiveDate::from_ymd_opt(year, rng.u32(1..=12), rng.u32(1..=28)).unwrap_or_default()
}
