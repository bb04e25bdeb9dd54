//! The remote console's end: [`Handshake`] opens a session, [`ClientSession`] uses it.
//!
//! ```text
//! let mut handshake = Handshake::start(config, nonce);
//! loop {
//!     send(handshake.poll_transmit());            // again and again until something comes back
//!     match handshake.handle_datagram(&received) {
//!         Step::Established(session) => break Ok(session),
//!         Step::Advanced | Step::Ignored(_) => {}
//!         Step::Failed(error) => if nothing_better_comes() { break Err(error) },
//!     }
//! }
//! ```

mod handshake;
mod session;

pub use handshake::{
    ClientConfig, CredentialError, Handshake, HandshakeError, HandshakeNonce, Ignored, Step,
};
pub use session::{ClientSession, Incoming};
