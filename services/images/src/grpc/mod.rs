//! The API: parse, call [`crate::app`], map the answer.

pub(crate) mod image;
mod status;
mod upload;
