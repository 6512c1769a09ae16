//! The WebSocket decoder and writers, as a connection uses them: the cases of the Autobahn test
//! suite (chapters 1-7 and 10) by number, random traffic against what was sent, costs, handshake.

mod client;
mod closing;
mod costs;
mod fragmentation;
mod framing;
mod handshake;
mod random;
mod utf8;
mod writing;
