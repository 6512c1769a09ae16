//! Black-box tests of the built binary, and of the same server inside another program.

mod child;
mod cluster;
mod docs;
mod embed;
mod notice;
mod operator;
mod serve;
mod session;
mod stdio;
mod tasks;
mod tune;
