//! What the build makes of `proto/`, one module for each package.

pub mod policy {
    //! Resources, package `trama.policy`.
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/trama.policy.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/trama.policy.v1.serde.rs"));
    }
}

pub mod discovery {
    //! The policy stream, package `trama.discovery`.
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/trama.discovery.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/trama.discovery.v1.serde.rs"));
    }
}

pub mod explain {
    //! Why a request goes where it goes, package `trama.explain`.
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/trama.explain.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/trama.explain.v1.serde.rs"));
    }
}

pub mod admin {
    //! The Admin API, package `trama.admin`.
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/trama.admin.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/trama.admin.v1.serde.rs"));
    }
}

pub mod identity {
    //! Identities of workloads, package `trama.identity`.
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/trama.identity.v1.rs"));
    }
}
