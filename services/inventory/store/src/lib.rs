//! The inventory database. sea-orm stops here.
