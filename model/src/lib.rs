//! Ids, nouns, the node life cycle table and placement: pure, no I/O, no async, no proto.
