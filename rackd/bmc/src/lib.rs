//! Drives baseboard management controllers: one trait per capability, drivers compose them.
