//! Every target with what fuzzing has kept, and with seeded changes to it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzz::TARGETS;

/// For each target. Not a limit on anything that is tested: how long is looked for.
const TIME: Duration = Duration::from_secs(6);

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

fn run(name: &str, target: fn(&[u8]), data: &[u8], what: &str) {
    let outcome = std::panic::catch_unwind(|| target(data));
    if outcome.is_err() {
        let found = std::env::temp_dir().join(format!("muster-fuzz-{name}"));
        std::fs::write(&found, data).unwrap();
        panic!("{name}: {what}; the input is in {}", found.display());
    }
}

#[test]
fn nothing_that_was_ever_found_comes_back() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "{name} has no corpus");
        for (file, data) in files {
            run(name, *target, &data, &format!("{} fails", file.display()));
        }
    }
}

/// Numbers that don't fit, and things that aren't numbers.
const ODD: &[&[u8]] =
    &[b"9223372036854775808", b"-1", b"null", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"];

/// One thing of what happens to bytes on their way: cut, doubled, mixed with others, a bit turned, a number made odd.
fn change(random: &mut fastrand::Rng, data: &mut Vec<u8>, other: &[u8]) {
    let at = random.usize(0..=data.len());
    let to = random.usize(at..=data.len());
    match random.u8(0..7) {
        0 => data.truncate(at),
        1 => drop(data.drain(at..to)),
        2 => {
            let part = data[at..to].to_vec();
            data.splice(at..at, part);
        }
        3 => {
            let from = random.usize(0..=other.len());
            let until = random.usize(from..=other.len());
            data.splice(at..to, other[from..until].iter().copied());
        }
        4 => data.insert(at, random.u8(..)),
        5 => drop(data.splice(at..to, random.choice(ODD).unwrap().iter().copied())),
        _ => {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << random.u8(0..8);
            }
        }
    }
}

#[test]
fn changed_input_breaks_nothing_either() {
    std::thread::scope(|threads| {
        // Two halves, for two cores.
        for half in 0..2 {
            threads.spawn(move || {
                for (name, target) in TARGETS.iter().skip(half).step_by(2) {
                    let files = corpus(name);
                    let mut random = fastrand::Rng::with_seed(u64::from(name.len() as u32));
                    let end = Instant::now() + TIME;
                    while Instant::now() < end {
                        let mut data = random.choice(&files).unwrap().1.clone();
                        let other = random.choice(&files).unwrap();
                        for _ in 0..random.u8(1..6) {
                            change(&mut random, &mut data, &other.1);
                        }
                        data.truncate(256 << 10);
                        run(name, *target, &data, "changed input fails");
                    }
                }
            });
        }
    });
}
