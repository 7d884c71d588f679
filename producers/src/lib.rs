//! Sources: one folder per system read from.
