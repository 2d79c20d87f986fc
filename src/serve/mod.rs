//! Placeholder heading, replaced by the module's own.
