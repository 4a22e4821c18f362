//! What tests share that have more than one server, the scenarios too.

pub(crate) mod wire;
