//! Users of the register from the ATS's staff: members of staff with one e-mail address are one user.

use std::collections::{BTreeMap, HashMap};

use pipeline::processor::{Group, Outputs, Processor, Row};
use pipeline::reject::Reject;
use schemas::Entity;
use schemas::records::{ats::Staff, register::User};

use crate::decode;

/// `ats.staff` to `register.user`. All staff are one group, since who shares an e-mail address isn't seen in the keys.
///
/// A user is the member of staff with the smallest id among those with the same e-mail address: id, name and address
/// are that member's. The others are left out as `same_email`. Without an address, each is a user.
///
/// A member of staff who can't be read is set aside alone: a failure of the one group would keep all users as they were.
pub struct Users;

impl Processor for Users {
    type In = Result<Staff, Reject>;
    type Tables = ();

    fn name(&self) -> &'static str {
        "users"
    }

    fn version(&self) -> u32 {
        1
    }

    fn inputs(&self) -> &'static [&'static str] {
        &[Staff::TOPIC]
    }

    fn tables(&self) -> &'static [&'static str] {
        &[]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &[User::TOPIC]
    }

    fn one_group(&self) -> bool {
        true
    }

    fn decode(&self, row: &Row) -> Result<Self::In, Reject> {
        Ok(decode::entity(row))
    }

    fn arrange(&self, _: &[Row], _: &mut Vec<Reject>) {}

    fn derive(&self, group: &Group<Self::In>, (): &(), out: &mut Outputs) -> Result<(), Reject> {
        let mut staff = Vec::with_capacity(group.inputs.len());
        for input in &group.inputs {
            match &input.value {
                Ok(member) => staff.push(member),
                Err(part) => out.reject(part.clone()),
            }
        }
        let users = users(staff.iter().copied());
        for _ in users.len()..staff.len() {
            out.leave_out("same_email");
        }
        // In the order of ids, not of addresses.
        let by_id: BTreeMap<&str, &Staff> = users.into_values().map(|staff| (staff.id.as_str(), staff)).collect();
        for staff in by_id.into_values() {
            let user = User {
                id: staff.id.clone(),
                name: staff.name.clone(),
                email: email(staff).map(str::to_owned),
                user_id: Some(staff.id.clone()),
            };
            // Nor does one user who can't be written hold back the others.
            if let Err(part) = out.put(&user) {
                out.reject(part);
            }
        }
        Ok(())
    }
}

/// Which user a member of staff is. A reference table of other processors.
#[derive(Default)]
pub(crate) struct Directory {
    user_by_staff: HashMap<String, String>,
}

impl Directory {
    /// Follows the rules of [`Users`].
    pub(crate) fn of(staff: &[Staff]) -> Self {
        let users = users(staff);
        let user_of = |member| users.get(&identity(member)).map_or_else(|| member.id.clone(), |user| user.id.clone());
        Self { user_by_staff: staff.iter().map(|member| (member.id.clone(), user_of(member))).collect() }
    }

    /// The id of the user who is this member of staff. `None`: nobody has the id, which must be in lower case.
    pub(crate) fn user(&self, staff_id: &str) -> Option<&str> {
        self.user_by_staff.get(staff_id).map(String::as_str)
    }
}

/// What tells users apart.
#[derive(PartialEq, Eq, Hash)]
enum Identity<'a> {
    Email(String),
    Id(&'a str),
}

fn identity(staff: &Staff) -> Identity<'_> {
    match email(staff) {
        Some(email) => Identity::Email(email.to_lowercase()),
        None => Identity::Id(&staff.id),
    }
}

fn email(staff: &Staff) -> Option<&str> {
    staff.email.as_deref().map(str::trim).filter(|email| !email.is_empty())
}

/// The member of staff who stands for each user: the one with the smallest id, whatever the order of `staff`.
fn users<'a>(staff: impl IntoIterator<Item = &'a Staff>) -> HashMap<Identity<'a>, &'a Staff> {
    let mut users = HashMap::new();
    for member in staff {
        let user = users.entry(identity(member)).or_insert(member);
        if member.id < user.id {
            *user = member;
        }
    }
    users
}
