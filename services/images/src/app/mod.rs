//! What the service does, without a word of gRPC.

mod error;
mod hold;
mod images;
pub(crate) mod reader;
mod reserve;
mod upload;

pub(crate) use error::AppError;
pub(crate) use images::Images;
pub(crate) use upload::{Begun, Wanted};
