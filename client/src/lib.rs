//! Sawlog.
