//! The only crate that names rustls: ids, trust, rotation, server and client set-up.
