//! The verifiable producer as a program.
