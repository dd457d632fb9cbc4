//! Asking sidecars that would all do: one after the other, until one answers.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use trama_proto::{
    admin::v1::Unheard,
    discovery::v1::{
        ask::{Kind, Question},
        failure::Reason,
        told::Answer,
    },
    explain::v1::Explanation,
};

use super::{Asked, Heard};
use crate::{
    admin::{Shared, error, proxy::Proxy},
    stream::{PATIENCE, Unanswered},
};

/// For how long one is waited for while another can be asked. A sidecar waits a second at most for its worker.
const TURN: Duration = Duration::from_secs(2);
/// So many are asked at most: where these say nothing, whoever asks is to look at them first.
const MOST: usize = 10;
/// The field of the request that the question is.
pub(super) const FIELD: &str = "request";

impl Shared {
    /// The first that answers, and who was asked in vain before. All of them together are waited for no longer than one alone
    /// would be. What a sidecar has against the question itself is no silence.
    pub(super) async fn first_to_answer(
        &self,
        proxies: Vec<Proxy>,
        asked: &Asked,
    ) -> Result<(Option<Heard>, Vec<Unheard>), Status> {
        let end = Instant::now() + PATIENCE;
        let (mut proxies, mut unheard) = (proxies.into_iter().take(MOST).peekable(), Vec::new());
        while let Some(proxy) = proxies.next() {
            let left = end.saturating_duration_since(Instant::now());
            let another = proxies.peek().is_some_and(|next| next.answers(Kind::Explain));
            let patience = if another { left.min(TURN) } else { left };
            match self.explained_by(&proxy, asked, patience).await {
                Ok(told) => return Ok((Some(Heard { proxy, told }), unheard)),
                Err(why) if is_about_the_question(&why) => {
                    return Err(error::unanswered(&proxy.name(), FIELD, &why));
                }
                Err(why) => unheard.push(Unheard { sidecar: proxy.name(), why: why.to_string() }),
            }
        }
        Ok((None, unheard))
    }

    /// What a sidecar says while there is patience.
    pub(super) async fn explained_by(
        &self,
        proxy: &Proxy,
        asked: &Asked,
        patience: Duration,
    ) -> Result<Explanation, Unanswered> {
        let question = Question::Explain(asked.request.clone());
        match self.asked(proxy, question, patience).await? {
            Answer::Explanation(told) => Ok(told),
            _ => Err(Unanswered::Foreign),
        }
    }
}

fn is_about_the_question(why: &Unanswered) -> bool {
    matches!(why, Unanswered::Refused(failure) if failure.reason() == Reason::Refused)
}
