//! The endpoints and their two generations of paths (ATS contract, "Endpoints of the ATS").

/// One list of the ATS, under its old path, its new path, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// `/staff`.
    Staff,
    /// `/HealthAuthority`, `/health-authorities`.
    HealthAuthorities,
    /// `/Reason`, `/withdrawal-reasons`.
    Reasons,
    /// `/Milestone`, `/milestones`.
    Milestones,
    /// `/specialty-departments`: known, and no longer served.
    Departments,
    /// `/Applicant`, `/applicants`.
    Applicants,
}

impl Endpoint {
    /// The endpoint a path leads to, whatever its case.
    pub fn of_path(path: &str) -> Option<Endpoint> {
        let name = path.strip_prefix('/')?.to_ascii_lowercase();
        match name.as_str() {
            "staff" => Some(Endpoint::Staff),
            "healthauthority" | "health-authorities" => Some(Endpoint::HealthAuthorities),
            "reason" | "withdrawal-reasons" => Some(Endpoint::Reasons),
            "milestone" | "milestones" => Some(Endpoint::Milestones),
            "specialty-departments" => Some(Endpoint::Departments),
            "applicant" | "applicants" => Some(Endpoint::Applicants),
            _ => None,
        }
    }

    /// Whether the header `ApiKey` is required.
    pub fn needs_key(self) -> bool {
        matches!(self, Endpoint::Staff | Endpoint::Applicants)
    }
}
