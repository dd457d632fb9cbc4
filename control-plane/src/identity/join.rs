//! The first proof: a token that was made for one identity becomes that identity's first certificate.

use std::time::Duration;

use prost::Message;
use trama_proto::spiffe::SpiffeId;

use super::{Authority, IdentityError, Issued, JoinToken, certificate::Request, records};
use crate::store::{Change, Expect, MOST_CHANGES, StoreError};

/// A token, made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// The token. It is shown once; the store does not know its secret.
    pub token: JoinToken,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
}

impl Authority {
    /// Makes a token for one identity.
    pub async fn invite(
        &self,
        id: &SpiffeId,
        lifetime: Duration,
        now: u64,
    ) -> Result<Joining, IdentityError> {
        self.check_domain(id)?;
        let token = JoinToken::draw()?;
        let expires = now + lifetime.as_secs();
        let record = token.record(id, expires);
        let change = Change::put(key(&token), record.encode_to_vec()).expecting(Expect::Absent);
        self.store.transact(vec![change]).await?;
        Ok(Joining { token, expires })
    }

    /// Redeems a token. First the token: who has none must not have us parse and verify what he sends.
    pub async fn join(&self, token: &JoinToken, request: &[u8], now: u64) -> Result<Issued, IdentityError> {
        let key = key(token);
        // A few rounds: another key may be redeeming the same token at this moment, and only one may win.
        loop {
            let entry = self.store.get(&key).await?.ok_or(IdentityError::UnknownToken)?;
            let damaged = |error| StoreError::Damaged(format!("{key}: {error}"));
            let mut record = records::Token::decode(entry.value).map_err(damaged)?;
            token.check(&record, now)?;
            let request = Request::parse(request)?;
            JoinToken::check_key(&record, &request.key_digest())?;
            let id = SpiffeId::parse(&record.identity).map_err(|rule| IdentityError::BadIdentity {
                id: record.identity.clone(),
                rule: rule.to_owned(),
            })?;
            request.check_names(&id)?;

            record.used_by = request.key_digest();
            let used = Change::put(&key, record.encode_to_vec()).expecting(Expect::Version(entry.version));
            match self.store.transact(vec![used]).await {
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return self.issue(&id, &request, now).await,
            }
        }
    }

    /// Forgets tokens that have ended.
    pub async fn forget_expired(&self, now: u64) -> Result<usize, IdentityError> {
        let listing = self.store.list(records::TOKENS, None, usize::MAX).await?;
        let ended =
            |value| records::Token::decode(value).is_ok_and(|token: records::Token| now >= token.expires);
        let ended: Vec<_> = listing.entries.into_iter().filter(|entry| ended(entry.value.clone())).collect();
        // What has ended stays ended, so it is deleted whatever happened to it meanwhile.
        for some in ended.chunks(MOST_CHANGES) {
            self.store.transact(some.iter().map(|entry| Change::delete(&entry.key)).collect()).await?;
        }
        Ok(ended.len())
    }
}

fn key(token: &JoinToken) -> String {
    format!("{}{}", records::TOKENS, token.name)
}
