//! Whole racks: one binary, a module a subject.

mod authorization;
mod kill;
mod pretend_site;
