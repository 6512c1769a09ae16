//! What the host must give us: read the limits, say what is missing.
