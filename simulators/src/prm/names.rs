//! Invented people and places: names made from syllables, in Ukrainian and in Latin letters, so that none is anybody's but by
//! chance. Addresses are in no real place, phone numbers have no operator's code, e-mail goes to domains for examples.

use fastrand::Rng;
use serde::Serialize;
use uuid::Uuid;

use crate::ats::random::{per_mille, pick, uuid};

struct Syllables {
    starts: &'static [&'static str],
    middles: &'static [&'static str],
    first: &'static [&'static str],
    last: &'static [&'static str],
    second: &'static [&'static str],
}

const UKRAINIAN: Syllables = Syllables {
    starts: &[
        "Бо", "Ва", "Гу", "Ґа", "До", "Єла", "Же", "Зо", "Їра", "Ка", "Лю", "Ми", "Не", "Ору", "Па", "Ро", "Су", "Ти",
        "Уля", "Фе", "Хо", "Ця", "Чу", "Ша", "Ще", "Юва", "Яро",
    ],
    middles: &[
        "ба", "ве", "ґу", "де", "жо", "зи", "ко", "ла", "мʼя", "ню", "по", "ре", "са", "ту", "хи", "ці", "чо", "ші",
        "лі", "єва",
    ],
    first: &["на", "ра", "мир", "лан", "вей", "да", "рік", "тан", "ля", "сь"],
    last: &["енда", "ишко", "ів", "ура", "юк", "ало", "ейко", "ак", "иста", "ґайло"],
    second: &["ович", "івна", "ієвич", "їна"],
};

const LATIN: Syllables = Syllables {
    starts: &["Ba", "Che", "Do", "El", "Fi", "Gu", "Hra", "Io", "Ka", "Li", "Mo", "Ny", "Ore", "Pu", "Sha", "Ta", "Vy"],
    middles: &["ba", "de", "fo", "gi", "ha", "ju", "ko", "ly", "mi", "no", "pa", "ri", "se", "tu", "vo", "zhe"],
    first: &["na", "ran", "mir", "da", "lis", "tan", "vei"],
    last: &["enda", "yshko", "ura", "iuk", "alo", "eiko", "O'Dal", "ista"],
    second: &["ovych", "ivna"],
};

fn word(rng: &mut Rng, of: &Syllables, ends: &[&str]) -> String {
    let mut word = String::with_capacity(24);
    word.push_str(pick(rng, of.starts));
    for _ in 0..rng.usize(1..=2) {
        word.push_str(pick(rng, of.middles));
    }
    word.push_str(pick(rng, ends));
    word
}

/// What a person is called.
pub(super) struct Named {
    pub(super) first: String,
    pub(super) last: String,
    pub(super) second: Option<String>,
}

pub(super) fn person(rng: &mut Rng) -> Named {
    let of = if per_mille(rng, 850) { &UKRAINIAN } else { &LATIN };
    let first = word(rng, of, of.first);
    let mut last = word(rng, of, of.last);
    if per_mille(rng, 50) {
        last = format!("{last}-{}", word(rng, of, of.last));
    }
    let second = per_mille(rng, 900).then(|| word(rng, of, of.second));
    Named { first, last, second }
}

/// A word that could be the name of a place, a clinic or a school.
pub(super) fn place(rng: &mut Rng, ends: &[&str]) -> String {
    word(rng, &UKRAINIAN, ends)
}

/// A few words that mean nothing.
pub(super) fn sentence(rng: &mut Rng) -> String {
    let mut text = place(rng, &["на", "ля"]);
    for _ in 0..rng.usize(2..6) {
        text.push(' ');
        text.push_str(&place(rng, &["ти", "ла", "ні"]).to_lowercase());
    }
    text.push('.');
    text
}

/// The school or authority on a diploma.
pub(super) fn institution(rng: &mut Rng) -> String {
    let kind = pick(rng, &["медична академія", "медичний університет", "фаховий коледж"]);
    format!("{} {kind}", place(rng, &["ська", "цька"]))
}

/// The name part of an address at a domain that is reserved for examples.
pub(super) fn email(local: &str, number: u64) -> String {
    format!("{local}.{number}@example.org")
}

/// As the contract's phone.
#[derive(Serialize)]
pub(super) struct Phone {
    r#type: &'static str,
    number: String,
}

/// No operator has the code 00.
pub(super) fn phones(rng: &mut Rng) -> Vec<Phone> {
    let kinds: &[&'static str] = if per_mille(rng, 300) { &["MOBILE", "LAND_LINE"] } else { &["MOBILE"] };
    kinds.iter().map(|kind| Phone { r#type: kind, number: format!("+38000{:07}", rng.u32(0..10_000_000)) }).collect()
}

/// As the contract's address.
#[derive(Serialize)]
pub(super) struct Address {
    r#type: &'static str,
    country: &'static str,
    area: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    settlement: String,
    settlement_type: &'static str,
    settlement_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    street_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    street: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    building: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zip: Option<String>,
}

pub(super) fn address(rng: &mut Rng, r#type: &'static str) -> Address {
    let has_street = per_mille(rng, 850);
    Address {
        r#type,
        country: "UA",
        area: place(rng, &["ська", "цька"]),
        region: per_mille(rng, 600).then(|| place(rng, &["ський", "цький"])),
        settlement: place(rng, &["івка", "град", "ни"]),
        settlement_type: ["CITY", "TOWNSHIP", "VILLAGE"][rng.usize(..3)],
        settlement_id: uuid(rng),
        street_type: has_street.then(|| ["STREET", "AVENUE", "LANE"][rng.usize(..3)]),
        street: has_street.then(|| place(rng, &["ова", "ична"])),
        building: has_street.then(|| rng.u32(1..200).to_string()),
        // No post office has a code that begins with 00.
        zip: per_mille(rng, 900).then(|| format!("00{:03}", rng.u32(..1_000))),
    }
}
