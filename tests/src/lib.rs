//! End-to-end test support: whole racks in a process.
