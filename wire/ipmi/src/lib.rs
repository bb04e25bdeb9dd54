//! Sans-IO RMCP+ (IPMI 2.0): packets, session establishment, both ends.
