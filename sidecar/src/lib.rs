//! The sidecar: the proxy beside every service.
