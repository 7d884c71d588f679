//! Masters of the ATS that become masters of the register one by one: statuses, reasons, health authorities.

use pipeline::processor::{Group, Outputs, Processor, Row};
use pipeline::reject::Reject;
use schemas::Entity;
use schemas::records::{ats, register};

use crate::decode;

/// Makes one `Out` of each `In`, under the same key.
pub struct OneToOne<In, Out> {
    name: &'static str,
    version: u32,
    convert: fn(&In) -> Out,
}

/// `ats.milestone` to `register.status`.
///
/// "Milestone names containing "NCAS" are renamed to "Inspire"" (ATS contract, what a run does, 1): the word is
/// replaced and the rest of the name stays, since the contract also says that "Completed NCAS" is called
/// "Completed Inspire" (7). Recruitment milestones become statuses, too: only applicants' milestones are filtered.
pub fn statuses() -> OneToOne<ats::Milestone, register::Status> {
    OneToOne {
        name: "statuses",
        version: 1,
        convert: |milestone| register::Status {
            id: milestone.id.clone(),
            status: milestone.name.replace("NCAS", "Inspire"),
            category: milestone.category.clone(),
        },
    }
}

/// `ats.reason` to `register.reason`, unchanged.
pub fn reasons() -> OneToOne<ats::Reason, register::Reason> {
    OneToOne {
        name: "reasons",
        version: 1,
        convert: |reason| register::Reason {
            id: reason.id.clone(),
            name: reason.name.clone(),
            i_e_n_program: reason.i_e_n_program,
            recruitment: reason.recruitment,
        },
    }
}

/// `ats.health_authority` to `register.health_authority`; the title is the ATS's name.
pub fn health_authorities() -> OneToOne<ats::HealthAuthority, register::HealthAuthority> {
    OneToOne {
        name: "health-authorities",
        version: 1,
        convert: |authority| register::HealthAuthority {
            id: authority.id.clone(),
            title: authority.name.clone(),
            abbreviation: authority.abbreviation.clone(),
        },
    }
}

impl<In: Entity, Out: Entity> Processor for OneToOne<In, Out> {
    type In = In;
    type Tables = ();

    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn inputs(&self) -> &'static [&'static str] {
        const { &[In::TOPIC] }
    }

    fn tables(&self) -> &'static [&'static str] {
        &[]
    }

    fn outputs(&self) -> &'static [&'static str] {
        const { &[Out::TOPIC] }
    }

    fn decode(&self, row: &Row) -> Result<In, Reject> {
        decode::entity(row)
    }

    fn arrange(&self, _: &[Row], _: &mut Vec<Reject>) {}

    fn derive(&self, group: &Group<In>, (): &(), out: &mut Outputs) -> Result<(), Reject> {
        for input in &group.inputs {
            out.put(&(self.convert)(&input.value))?;
        }
        Ok(())
    }
}
