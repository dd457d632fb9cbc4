//! Who may call what, as policy says it.

use std::sync::Arc;

use http::Method;

/// The policies of one application, in the order of their names, never none.
#[derive(Clone, Debug)]
pub struct Authorization(pub Vec<Arc<AuthzPolicy>>);

/// One policy.
#[derive(Debug)]
pub struct AuthzPolicy {
    /// `namespace/name`, for log and metrics.
    pub name: Arc<str>,
    /// What a match means.
    pub action: AuthzAction,
    /// Whether it is done, or only logged and counted.
    pub enforced: bool,
    /// It matches what one of these matches.
    pub rules: Vec<AuthzRule>,
}

/// What a match means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthzAction {
    /// The request may pass.
    Allow,
    /// The request is refused.
    Deny,
}

/// Conditions that must all hold; an empty list holds for everything.
#[derive(Debug, Default)]
pub struct AuthzRule {
    /// SPIFFE ids of callers.
    pub identities: Vec<TextPattern>,
    /// Methods.
    pub methods: Vec<Method>,
    /// Paths.
    pub paths: Vec<TextPattern>,
    /// Ports of the application.
    pub ports: Vec<u16>,
}

/// A text, or all that begins with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TextPattern {
    /// This one.
    Exact(Box<str>),
    /// All that begins so.
    Prefix(Box<str>),
}

impl TextPattern {
    /// Reads `text`, or `text*`.
    pub fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// Whether it stands for this.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == bytes,
            Self::Prefix(prefix) => bytes.starts_with(prefix.as_bytes()),
        }
    }
}
