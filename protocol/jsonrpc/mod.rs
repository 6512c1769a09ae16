//! JSON-RPC 2.0 envelopes, scanned borrowed.
