//! The fixed lists of a simulated ATS: milestones, reasons, health authorities. Names of things, no people.
//!
//! Milestones with an id here carry the real one (ATS contract, "Milestone ids usable in fixtures"); the others'
//! ids follow from their names.

use super::random::uuid_of;

pub(crate) const LICENSING: &str = "IEN Licensing/Registration Process";
pub(crate) const RECRUITMENT: &str = "IEN Recruitment Process";
pub(crate) const IMMIGRATION: &str = "BC PNP Process";
pub(crate) const SYSTEM: &str = "System";

pub(crate) struct Kind {
    id: Option<&'static str>,
    pub(crate) name: &'static str,
    pub(crate) category: &'static str,
    /// How many of 1,000 applicants have it.
    pub(crate) share: u32,
}

impl Kind {
    pub(crate) fn id(&self) -> String {
        self.id.map_or_else(|| uuid_of(self.name).to_string(), str::to_owned)
    }
}

const fn real(id: &'static str, name: &'static str, share: u32) -> Kind {
    Kind { id: Some(id), name, category: LICENSING, share }
}

const fn invented(category: &'static str, name: &'static str, share: u32) -> Kind {
    Kind { id: None, name, category, share }
}

/// The way to a licence, in the order it is usually gone; shares as counted in the contract.
pub(crate) const STEPS: &[Kind] = &[
    real("e68f902c-8440-4a9c-a05f-2765301de800", "Applied to NNAS", 1_000),
    real("897156c7-958c-4ec0-879a-ed4943af7b72", "Submitted Documents (NNAS Application in Review)", 840),
    real("20268c6e-145e-48cd-889a-2346985db957", "Received NNAS Report", 600),
    real("001dfb24-1618-e975-6578-3a0601aac804", "Applicant Referred to VIHA", 20),
    real("8a9b0d13-f5d7-4be3-8d38-11e5459f9e9a", "Applied to BCCNM", 470),
    real("da06889e-55a1-4ff2-9984-80ae23d7e44b", "Completed English Language Requirement", 450),
    real("aad2e076-df00-4dab-a0cc-6a7f0bafc51b", "Applied to NCAS", 300),
    real("61150e8a-6e83-444a-9dab-3129a8cc0719", "Completed Computer-Based Assessment (CBA)", 220),
    real("9066b792-6fbf-4e60-803f-0554e4b4dba9", "Completed Simulation Lab Assessment (SLA)", 190),
    real("06e2d762-05ba-4667-93d2-7843d3cf9fc5", "Completed NCAS", 140),
    real("8024ed3a-803f-4e34-9934-c29565daaf63", "Referred to Additional Education", 40),
    real("59263418-77ea-411f-894d-c84b5e1f710f", "Completed Additional Education", 25),
    real("0d6bcfe1-fb00-45cb-a9c6-c6a53da12e62", "NCLEX – Written", 160),
    real("b0d38aa5-b776-4033-97f7-9894e9b33a3c", "NCLEX – Passed", 140),
    invented(LICENSING, "BCCNM Provisional License RN", 60),
    invented(LICENSING, "BCCNM Full License RN", 50),
    invented(LICENSING, "BCCNM Full License LPN", 20),
    invented(LICENSING, "Signed Return of Service Agreement", 25),
];

pub(crate) const RECRUITMENT_STEPS: &[Kind] = &[
    invented(RECRUITMENT, "Referral Acknowledged/Reviewed", 120),
    invented(RECRUITMENT, "Pre-Screen – Passed", 80),
    invented(RECRUITMENT, "Interview – Passed", 50),
    invented(RECRUITMENT, "Reference Check – Passed", 40),
    invented(RECRUITMENT, "Job Offer Accepted", 30),
];

pub(crate) const IMMIGRATION_STEPS: &[Kind] = &[
    invented(IMMIGRATION, "Sent First Steps Document to Candidate", 60),
    invented(IMMIGRATION, "Received Confirmation of Nomination", 40),
    invented(IMMIGRATION, "Received Work Permit (Arrival in Canada)", 25),
];

pub(crate) const NOT_PROCEEDING: Kind = invented(SYSTEM, "Not proceeding", 60);
pub(crate) const WITHDREW: Kind = invented(LICENSING, "Withdrew from IEN program", 30);
/// Its share is of those who had stopped.
pub(crate) const RE_ENGAGED: Kind = invented(SYSTEM, "Re-engaged", 300);

/// In the list of milestones, but on nobody; it has no category, which the contract allows.
pub(crate) const UNUSED: Kind = invented("", "Registration Journey Complete", 0);

/// On some applicants, but in no list: the ATS archived it. 15 in 1,000.
pub(crate) const ARCHIVED: Kind = invented("", "Archived Milestone", 15);

/// Every milestone that the list contains.
pub(crate) fn listed() -> impl Iterator<Item = &'static Kind> {
    const ENDS: &[Kind] = &[NOT_PROCEEDING, WITHDREW, RE_ENGAGED, UNUSED];
    STEPS.iter().chain(RECRUITMENT_STEPS).chain(IMMIGRATION_STEPS).chain(ENDS)
}

/// Name, and whether it is a reason to leave the programme, and a recruitment.
pub(crate) const REASONS: &[(&str, bool, bool)] = &[
    ("Accepted a position outside the province", true, true),
    ("Accepted a position outside the profession", true, true),
    ("Cost of the process", true, false),
    ("Could not meet the English language requirement", true, false),
    ("Failed the competency assessment", true, false),
    ("Family or personal circumstances", true, true),
    ("Length of the process", true, true),
    ("No position offered in the preferred community", false, true),
    ("Position already filled", false, true),
    ("Wages", false, true),
    ("Other", true, true),
];

/// Public bodies: name and abbreviation.
pub(crate) const HEALTH_AUTHORITIES: &[(&str, &str)] = &[
    ("First Nations Health Authority", "FNHA"),
    ("Fraser Health", "FHA"),
    ("Interior Health", "IHA"),
    ("Northern Health", "NHA"),
    ("Providence Health Care", "PHC"),
    ("Provincial Health Services Authority", "PHSA"),
    ("Vancouver Coastal Health", "VCHA"),
    ("Vancouver Island Health Authority", "VIHA"),
];

/// Common codes first: the generator prefers the beginning. The last ones are in no standard, yet occur.
pub(crate) const COUNTRIES: &[&str] = &[
    "PH", "IN", "NG", "US", "CA", "GB", "IR", "KE", "GH", "BR", "CO", "MX", "HK", "SG", "AE", "IT", "JM", "NP", "LK",
    "ZW",
];
pub(crate) const ODD_COUNTRIES: &[&str] =
    &["UK", "EN", "XX", "AN", "YU", "SU", "ph", "in", "ca", "KOS", "Philippines", "??", "N/A"];

pub(crate) const EDUCATIONS: &[&str] = &[
    "Bachelor of Science in Nursing",
    "Diploma of Nursing",
    "Associate Degree of Nursing",
    "Masters Degree",
    "Post-basic Certificate",
    "Other",
];

pub(crate) const PR_STATUSES: &[&str] =
    &["Canadian Citizen", "Permanent Resident", "Work Visa", "Student Visa", "Visitor Visa", "Refugee Claimant"];

pub(crate) const NOTES: &[&str] = &[
    "Documents requested again.",
    "Called; will send the report next week.",
    "Waiting for the school to answer.",
    "Second attempt.\nAccommodation approved.",
    "Prefers a rural community \"close to the sea\".",
    "Vu le 3 mai – dossier complet ✓",
];
