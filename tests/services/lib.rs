//! Finds or starts the real services the tests run against.
