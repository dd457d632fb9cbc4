//! Step 1 of a request's way: sockets.

pub mod original_dst;
