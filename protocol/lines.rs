//! Newline-delimited messages (TCP and stdio).
