//! Who a workload is: a certificate authority of our own, and the tokens by which a workload proves for the first time
//! that it may have an identity.
//!
//! Keys of workloads never come here: they send a signing request. The authority's own keys lie sealed in the store.

mod authority;
mod certificate;
mod error;
mod join;
mod rates;
mod records;
mod roots;
mod seal;
mod service;
mod token;
mod trusted;

#[cfg(test)]
mod tests;

pub use self::{
    authority::{Authority, Issued, Settings},
    error::IdentityError,
    join::Joining,
    seal::SealingKey,
    token::JoinToken,
};
pub(crate) use self::{service::Identities, trusted::Trusted};
