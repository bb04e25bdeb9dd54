//! The scheduler database. sea-orm stops here.
