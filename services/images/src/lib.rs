//! The images service.
