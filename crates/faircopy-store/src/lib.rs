//! SQL storage for Faircopy: the only crate that names the database library.
