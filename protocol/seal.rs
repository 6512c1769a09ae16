//! Sealed tokens: session ids, request states, cursors.
