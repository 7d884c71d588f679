//! The eight tables: columns, keys, references and indexes, once for both kinds of database.
//!
//! `employees` is as the contract's section on the source table has it. The others have the fields of their bulk records as
//! columns, and who wrote them when.

use std::fmt;

/// A table of the registry. The order is that of filling: parents first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `legal_entities`: who runs clinics and pharmacies.
    LegalEntities,
    /// `divisions`: the places of a legal entity.
    Divisions,
    /// `parties`: people, once each.
    Parties,
    /// `employees`: jobs of people; most have one.
    Employees,
    /// `healthcare_services`: what a division offers.
    HealthcareServices,
    /// `employee_roles`: who provides which service.
    EmployeeRoles,
    /// `contract_divisions`: which divisions a contract covers. The only table with rows that are deleted.
    ContractDivisions,
    /// `declarations_limit`: how many patients a doctor may have.
    DeclarationsLimit,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `uuid`.
    Uuid,
    /// `varchar`.
    Varchar,
    /// `boolean`.
    Boolean,
    /// `integer`.
    Integer,
    /// `date`.
    Date,
    /// `timestamp`: UTC, in microseconds.
    Timestamp,
    /// `timestamptz`.
    Timestamptz,
    /// `jsonb`.
    Jsonb,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether the database refuses nulls.
    pub required: bool,
}

/// A column that refers to another table's `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The column.
    pub column: &'static str,
    /// The table whose `id` it holds.
    pub to: Table,
}

const fn must(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, required: true }
}

const fn may(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, required: false }
}

const ID: Column = must("id", Kind::Uuid);
const INSERTED_BY: Column = must("inserted_by", Kind::Uuid);
const UPDATED_BY: Column = must("updated_by", Kind::Uuid);
const INSERTED_AT: Column = must("inserted_at", Kind::Timestamp);
const UPDATED_AT: Column = must("updated_at", Kind::Timestamp);

const LEGAL_ENTITIES: &[Column] = &[
    ID,
    must("name", Kind::Varchar),
    may("short_name", Kind::Varchar),
    must("public_name", Kind::Varchar),
    must("status", Kind::Varchar),
    must("type", Kind::Varchar),
    may("owner_property_type", Kind::Varchar),
    may("legal_form", Kind::Varchar),
    must("edrpou", Kind::Varchar),
    may("kveds", Kind::Jsonb),
    must("addresses", Kind::Jsonb),
    must("phones", Kind::Jsonb),
    must("email", Kind::Varchar),
    must("is_active", Kind::Boolean),
    may("website", Kind::Varchar),
    may("status_reason", Kind::Varchar),
    must("residence_address", Kind::Jsonb),
    may("accreditation", Kind::Jsonb),
    INSERTED_BY,
    UPDATED_BY,
    INSERTED_AT,
    UPDATED_AT,
];

const DIVISIONS: &[Column] = &[
    ID,
    may("external_id", Kind::Varchar),
    must("name", Kind::Varchar),
    must("type", Kind::Varchar),
    must("mountain_group", Kind::Boolean),
    must("phones", Kind::Jsonb),
    must("email", Kind::Varchar),
    must("legal_entity_id", Kind::Uuid),
    may("location", Kind::Jsonb),
    must("status", Kind::Varchar),
    must("is_active", Kind::Boolean),
    may("working_hours", Kind::Jsonb),
    may("dls_id", Kind::Varchar),
    may("dls_verified", Kind::Boolean),
    must("addresses", Kind::Jsonb),
    INSERTED_BY,
    UPDATED_BY,
    INSERTED_AT,
    UPDATED_AT,
];

const PARTIES: &[Column] = &[
    ID,
    must("first_name", Kind::Varchar),
    must("last_name", Kind::Varchar),
    may("second_name", Kind::Varchar),
    must("year_of_birth", Kind::Varchar),
    must("gender", Kind::Varchar),
    may("tax_id", Kind::Varchar),
    may("educations", Kind::Jsonb),
    may("qualifications", Kind::Jsonb),
    may("specialities", Kind::Jsonb),
    may("science_degree", Kind::Jsonb),
    may("about_myself", Kind::Varchar),
    may("working_experience", Kind::Integer),
    must("verification_status", Kind::Varchar),
    INSERTED_BY,
    UPDATED_BY,
    INSERTED_AT,
    UPDATED_AT,
];

const EMPLOYEES: &[Column] = &[
    ID,
    must("position", Kind::Varchar),
    must("status", Kind::Varchar),
    must("employee_type", Kind::Varchar),
    must("is_active", Kind::Boolean),
    INSERTED_BY,
    UPDATED_BY,
    must("start_date", Kind::Date),
    may("end_date", Kind::Date),
    may("legal_entity_id", Kind::Uuid),
    may("division_id", Kind::Uuid),
    may("party_id", Kind::Uuid),
    may("status_reason", Kind::Varchar),
    may("additional_info", Kind::Jsonb),
    may("speciality", Kind::Jsonb),
    INSERTED_AT,
    UPDATED_AT,
];

const HEALTHCARE_SERVICES: &[Column] = &[
    ID,
    must("legal_entity_id", Kind::Uuid),
    must("division_id", Kind::Uuid),
    may("speciality_type", Kind::Varchar),
    may("providing_condition", Kind::Varchar),
    must("category", Kind::Jsonb),
    may("type", Kind::Jsonb),
    must("status", Kind::Varchar),
    may("comment", Kind::Varchar),
    may("coverage_area", Kind::Jsonb),
    must("is_active", Kind::Boolean),
    may("available_time", Kind::Jsonb),
    may("not_available", Kind::Jsonb),
    may("license_id", Kind::Uuid),
    INSERTED_BY,
    UPDATED_BY,
    INSERTED_AT,
    UPDATED_AT,
];

const EMPLOYEE_ROLES: &[Column] = &[
    ID,
    must("healthcare_service_id", Kind::Uuid),
    must("employee_id", Kind::Uuid),
    must("start_date", Kind::Timestamp),
    may("end_date", Kind::Timestamp),
    must("status", Kind::Varchar),
    INSERTED_BY,
    UPDATED_BY,
    INSERTED_AT,
    UPDATED_AT,
];

const CONTRACT_DIVISIONS: &[Column] = &[
    must("contract_id", Kind::Varchar),
    must("division_id", Kind::Uuid),
    must("contract_status", Kind::Varchar),
    must("contract_start_date", Kind::Date),
    must("contract_end_date", Kind::Date),
    must("contract_division_status", Kind::Varchar),
    must("changed_at", Kind::Timestamptz),
    INSERTED_BY,
    UPDATED_BY,
    INSERTED_AT,
    UPDATED_AT,
];

const DECLARATIONS_LIMIT: &[Column] = &[
    must("party_id", Kind::Uuid),
    must("declarations_limit", Kind::Integer),
    must("declarations_count", Kind::Integer),
    INSERTED_BY,
    UPDATED_BY,
    INSERTED_AT,
    UPDATED_AT,
];

impl Table {
    /// All, parents first.
    pub const ALL: [Table; 8] = [
        Table::LegalEntities,
        Table::Divisions,
        Table::Parties,
        Table::Employees,
        Table::HealthcareServices,
        Table::EmployeeRoles,
        Table::ContractDivisions,
        Table::DeclarationsLimit,
    ];

    /// Its name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Table::LegalEntities => "legal_entities",
            Table::Divisions => "divisions",
            Table::Parties => "parties",
            Table::Employees => "employees",
            Table::HealthcareServices => "healthcare_services",
            Table::EmployeeRoles => "employee_roles",
            Table::ContractDivisions => "contract_divisions",
            Table::DeclarationsLimit => "declarations_limit",
        }
    }

    /// Its columns, in the order in which rows hold them.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Table::LegalEntities => LEGAL_ENTITIES,
            Table::Divisions => DIVISIONS,
            Table::Parties => PARTIES,
            Table::Employees => EMPLOYEES,
            Table::HealthcareServices => HEALTHCARE_SERVICES,
            Table::EmployeeRoles => EMPLOYEE_ROLES,
            Table::ContractDivisions => CONTRACT_DIVISIONS,
            Table::DeclarationsLimit => DECLARATIONS_LIMIT,
        }
    }

    /// The columns of its primary key; they stand first in a row.
    pub fn key(self) -> &'static [&'static str] {
        match self {
            Table::ContractDivisions => &["contract_id", "division_id"],
            Table::DeclarationsLimit => &["party_id"],
            _ => &["id"],
        }
    }

    /// What refers to other tables.
    pub fn references(self) -> &'static [Reference] {
        const fn to(column: &'static str, to: Table) -> Reference {
            Reference { column, to }
        }
        match self {
            Table::LegalEntities | Table::Parties => &[],
            Table::Divisions => const { &[to("legal_entity_id", Table::LegalEntities)] },
            Table::Employees => {
                const {
                    &[
                        to("legal_entity_id", Table::LegalEntities),
                        to("division_id", Table::Divisions),
                        to("party_id", Table::Parties),
                    ]
                }
            }
            Table::HealthcareServices => {
                const { &[to("legal_entity_id", Table::LegalEntities), to("division_id", Table::Divisions)] }
            }
            Table::EmployeeRoles => {
                const { &[to("healthcare_service_id", Table::HealthcareServices), to("employee_id", Table::Employees)] }
            }
            Table::ContractDivisions => const { &[to("division_id", Table::Divisions)] },
            Table::DeclarationsLimit => const { &[to("party_id", Table::Parties)] },
        }
    }

    /// The columns of its indexes, besides the primary key.
    pub fn indexes(self) -> &'static [&'static [&'static str]] {
        match self {
            Table::Employees => {
                &[&["legal_entity_id"], &["division_id"], &["party_id"], &["legal_entity_id", "status", "is_active"]]
            }
            Table::Divisions | Table::HealthcareServices => &[&["legal_entity_id"]],
            Table::EmployeeRoles => &[&["employee_id"]],
            Table::LegalEntities | Table::Parties | Table::ContractDivisions | Table::DeclarationsLimit => &[],
        }
    }

    /// Where a column stands in a row.
    pub fn position(self, column: &str) -> Option<usize> {
        self.columns().iter().position(|one| one.name == column)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
