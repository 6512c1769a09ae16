//! A runner made of plain threads, for tests and small embedders.

/// Runs work on threads of its own.
pub struct ThreadRunner {}
