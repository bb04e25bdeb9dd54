//! farrier: the command line.
