//! Whole racks: one binary, a module a subject.

mod kill;
mod pretend_site;
