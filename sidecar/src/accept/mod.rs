//! Step 1 of a request's way: sockets.

pub mod listener;
pub mod original_dst;
pub mod served;
