//! Servers that behave like the systems Muster talks to, with seeded data and switchable faults.
