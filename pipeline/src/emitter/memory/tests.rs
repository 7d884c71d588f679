#![allow(clippy::unwrap_used, reason = "tests")]
use std::path::Path;

use super::*;

fn known(version: i64) -> Known {
    Known {
        version: Version(version),
        writer: Epoch(1),
        offset: Offset(version),
        hash: Some(ContentHash([7; 16])),
        highest: Version(version),
        last: Offset(version),
    }
}

fn key(text: &str) -> Key {
    Key::from_bytes(text.as_bytes()).unwrap()
}

fn open(folder: Option<&Path>, life: &str) -> Memory {
    let place = folder.map(|folder| Place::Folder(folder.to_owned()));
    Memory::open(place.as_ref(), "register.applicant-0", 1, &Incarnation(life.into()), 1_000, 10_000).unwrap()
}

#[test]
fn a_group_is_its_own_key_and_those_below_it_but_not_its_neighbours() {
    let mut memory = open(None, "a");
    let rows: Vec<_> = ["ada", "ada|s1|", "ada|s2|2022-01-01", "ada-2", "adam|s1|"].map(|k| (key(k), known(1))).into();
    memory.put(&rows, Offset(5), false).unwrap();
    let under: Vec<String> = memory.under("ada").unwrap().iter().map(|(k, _)| k.as_str().to_owned()).collect();
    assert_eq!(under, ["ada", "ada|s1|", "ada|s2|2022-01-01"]);
}

#[test]
fn a_key_is_absent_after_two_complete_passes_without_it() {
    let mut memory = open(None, "a");
    memory.put(&[(key("ada"), known(1)), (key("grace"), known(2))], Offset(2), true).unwrap();
    memory.mark_seen(&[key("ada")]).unwrap();
    assert!(memory.complete_pass().unwrap().is_empty());
    memory.mark_seen(&[key("ada")]).unwrap();
    assert_eq!(memory.complete_pass().unwrap(), [key("grace")]);
}

#[test]
fn a_key_is_gone_after_two_comparisons_in_a_row_that_say_so() {
    let mut memory = open(None, "a");
    memory.put(&[(key("ada"), known(1)), (key("grace"), known(2))], Offset(2), true).unwrap();
    assert!(memory.complete_comparison(&[key("ada"), key("nobody")]).unwrap().is_empty());
    assert!(memory.complete_comparison(&[]).unwrap().is_empty(), "it was back");
    assert!(memory.complete_comparison(&[key("ada")]).unwrap().is_empty(), "for the first time again");
    assert_eq!(memory.complete_comparison(&[key("ada")]).unwrap(), [key("ada")]);
}

#[test]
fn a_key_that_a_whole_pass_did_not_bring_is_gone_with_the_next_comparison_unless_it_came_back() {
    let mut memory = open(None, "a");
    let all = [(key("ada"), known(1)), (key("grace"), known(2)), (key("jean"), known(3))];
    memory.put(&all, Offset(3), true).unwrap();
    memory.mark_seen(&[key("ada")]).unwrap();
    assert!(memory.complete_pass().unwrap().is_empty());
    memory.back(&[key("jean")]).unwrap();
    assert_eq!(memory.complete_comparison(&[]).unwrap(), [key("grace")]);
    // As long as nobody deletes it.
    assert_eq!(memory.complete_comparison(&[]).unwrap(), [key("grace")]);
    memory.mark_seen(&[key("ada"), key("grace")]).unwrap();
    memory.complete_pass().unwrap();
    assert_eq!(memory.complete_comparison(&[]).unwrap(), [key("jean")]);
}

#[test]
fn what_was_saved_is_there_after_a_restart_and_another_incarnation_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut memory = open(Some(folder.path()), "a");
    memory.put(&[(key("ada"), known(1))], Offset(1), false).unwrap();
    memory.note_rejected(&[[1; 16]]).unwrap();
    memory.save(1_000).unwrap();
    drop(memory);
    assert_eq!(open(Some(folder.path()), "a").next(), Offset(1));
    let anew = open(Some(folder.path()), "b");
    assert_eq!((anew.next(), anew.live()), (Offset(0), 0));
    assert_eq!(anew.rejected_before(&[[1; 16]]).unwrap(), [false]);
    assert!(anew.keys(None, 10).unwrap().is_empty());
}

#[test]
fn what_would_have_to_be_read_again_is_bounded_in_keys_and_in_time() {
    let mut memory = open(None, "a");
    assert!(!memory.wants_saving(1_000_000), "nothing is unsaved");
    memory.put(&[(key("ada"), known(1))], Offset(1), true).unwrap();
    assert!(!memory.wants_saving(30_999));
    assert!(memory.wants_saving(31_000));
    memory.save(31_000).unwrap();
    assert!(!memory.wants_saving(31_000));
    let many: Vec<_> = (0..10_000).map(|n| (key(&format!("grace-{n}")), known(n))).collect();
    memory.put(&many, Offset(10_001), true).unwrap();
    assert!(memory.wants_saving(31_001));
}

#[test]
fn a_damaged_file_is_built_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("register.applicant-0.redb"), b"garbage").unwrap();
    assert_eq!(open(Some(folder.path()), "a").next(), Offset(0));
}
