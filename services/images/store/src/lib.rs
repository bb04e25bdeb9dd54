//! The images database. sea-orm stops here.
