//! Behaviour of one machine, message by message.
