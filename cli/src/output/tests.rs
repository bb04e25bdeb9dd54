//! Golden outputs of each noun.
