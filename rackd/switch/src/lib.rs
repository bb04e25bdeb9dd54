//! Plugs a server's port into a network.
