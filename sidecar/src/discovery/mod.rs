//! Where policy comes from, and how a new one is noticed. It runs beside the workers, on the runtime of admin and
//! export; a request never waits for it.

mod file;

pub use self::file::PolicyFile;
