//! Invented people: names made from syllables, so that none is anybody's but by chance.

use fastrand::Rng;

use super::random::{per_mille, pick};

const STARTS: &[&str] = &[
    "Ba", "Bri", "Ce", "Da", "Dro", "El", "Fa", "Ghi", "Ha", "Io", "Ja", "Ka", "Kwe", "La", "Lu", "Ma", "Mi", "Ne",
    "No", "O", "Pa", "Que", "Ra", "Ro", "Sa", "Shi", "Ta", "Thu", "U", "Va", "Wi", "Xo", "Ya", "Zu",
];
const MIDDLES: &[&str] = &[
    "ba", "che", "di", "fa", "go", "ha", "ju", "ka", "la", "lo", "mi", "mu", "na", "ni", "pe", "ra", "ri", "sa", "she",
    "ta", "ti", "vo", "wa", "ya", "zi",
];
const ENDS: &[&str] =
    &["bel", "d", "den", "ka", "l", "la", "lin", "mar", "n", "na", "nor", "r", "ra", "ris", "s", "than", "vi", "x"];
/// Endings that have broken somebody's code: accents, combining marks, other scripts' letters.
const ACCENTED: &[&str] = &["é", "ñez", "ü", "ø", "çal", "šić", "ău", "n\u{0303}o", "ʻi", "ßen"];

fn word(rng: &mut Rng) -> String {
    let mut word = pick(rng, STARTS).to_owned();
    for _ in 0..rng.usize(0..=2) {
        word.push_str(pick(rng, MIDDLES));
    }
    word.push_str(pick(rng, ENDS));
    word
}

pub(crate) fn first(rng: &mut Rng) -> String {
    let mut name = word(rng);
    if per_mille(rng, 40) {
        name = format!("{name} {}", word(rng));
    }
    if per_mille(rng, 20) {
        name.push_str(pick(rng, ACCENTED));
    }
    name
}

pub(crate) fn last(rng: &mut Rng) -> String {
    let mut name = word(rng);
    if per_mille(rng, 60) {
        let joint = pick(rng, &["-", " ", " dela "]);
        name = format!("{name}{joint}{}", word(rng));
    }
    if per_mille(rng, 20) {
        name = format!("O'{name}");
    }
    if per_mille(rng, 40) {
        name.push_str(pick(rng, ACCENTED));
    }
    name
}

/// An address at a domain that is reserved for examples.
pub(crate) fn email(rng: &mut Rng, first: &str, last: &str) -> String {
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let domain = pick(rng, &["example.org", "example.com", "mail.example.net"]);
    format!("{}.{}_{}@{domain}", plain(first), plain(last), rng.u16(1..1_000))
}

/// Digits only, often with a country code, often empty.
pub(crate) fn phone(rng: &mut Rng) -> String {
    if per_mille(rng, 250) {
        return String::new();
    }
    let prefix = pick(rng, &["1604555", "1250555", "1778555", "63917555", "91555", "44555", "234555"]);
    format!("{prefix}{:04}", rng.u16(0..10_000))
}
