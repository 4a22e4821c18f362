//! Rookery
