//! The policy model of Trama.
