#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{catalogue, compatibility::released, content_hash, from_avro, to_avro};

/// The released message becomes the struct, and the struct becomes a message with the same contents and key.
fn comes_back<T: Entity>() -> T {
    let topic = catalogue().entity(T::TOPIC).unwrap();
    let released = released().iter().rfind(|released| released.topic == T::TOPIC).unwrap();
    let record: T = from_avro(&topic.schema, released.message).unwrap();
    let mut body = Vec::new();
    to_avro(&topic.schema, &record, &mut body).unwrap();
    assert_eq!(content_hash(&topic.schema, &body), content_hash(&topic.schema, released.message));
    assert_eq!(record.key(), topic.key_of(&body).unwrap());
    record
}

#[test]
fn structs_and_schemas_agree() {
    comes_back::<ats::Staff>();
    comes_back::<ats::HealthAuthority>();
    comes_back::<ats::Reason>();
    comes_back::<ats::Milestone>();
    comes_back::<ats::Applicant>();
    comes_back::<register::User>();
    comes_back::<register::HealthAuthority>();
    comes_back::<register::Reason>();
    comes_back::<register::Status>();
    comes_back::<register::Applicant>();
    comes_back::<register::Milestone>();
}

#[test]
fn an_undated_milestone_has_an_empty_part_in_its_key() {
    let milestone = register::Milestone { start_date: None, ..comes_back() };
    assert_eq!(milestone.key().parts()[2], None);
    assert!(milestone.key().as_str().ends_with('|'));
}

#[test]
fn personal_data_is_not_printed() {
    let applicant = comes_back::<ats::Applicant>();
    let shown = format!("{applicant:?} {:?} {:?}", applicant.milestones, applicant.assigned_to);
    assert!(shown.starts_with("Applicant(7b0c1a52-3f57-4c0e-9a5e-2f1f6f0a9c11)"), "{shown}");
    for personal in ["Teresa", "Okafor", "example.org", "paper", "LX-77"] {
        assert!(!shown.contains(personal), "{shown}");
    }
    let user = format!("{:?} {:?}", comes_back::<register::User>(), comes_back::<ats::Staff>());
    assert!(!user.contains("Okafor") && !user.contains('@'), "{user}");
    let register = format!("{:?} {:?}", comes_back::<register::Applicant>(), comes_back::<register::Milestone>());
    assert!(!register.contains("Teresa") && !register.contains("paper"), "{register}");
}
