//! Questions to a sidecar, on its stream: few at one time, each with its deadline, and each answered once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prost::Message;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time,
};
use trama_proto::discovery::v1::{
    Ask, Failure, Told,
    ask::{Kind, Question},
    told::Answer,
};

/// For how long a sidecar is waited for, where no other one can be asked.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Questions to one sidecar at one time.
const MOST: usize = 8;
/// The largest answer, where messages may be as large.
const LARGEST: usize = 4 << 20;
/// What an answer's frame takes of a message.
const FRAME: usize = 64;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Its Hello does not say that it answers such questions.
    #[error("it does not answer such questions: upgrade it; meanwhile its own admin port may tell")]
    Unable,
    /// There is no room for another question.
    #[error("it is asked {MOST} questions already; ask again when they are answered")]
    Busy,
    /// It has not answered in time.
    #[error("it has not answered within {0:.0?}; its log may say why")]
    Late(Duration),
    /// Its stream has ended.
    #[error("its stream has ended meanwhile; it comes back if it lives")]
    Gone,
    /// It has answered more than it may.
    #[error(
        "its answer has {found} bytes, more than the {most} that are taken; its own admin port tells all of it"
    )]
    TooLarge {
        /// How many.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// It has answered what was not asked.
    #[error("its answer is that to another question; is it of another version?")]
    Foreign,
    /// It says why it does not answer.
    #[error("it does not answer: {}", .0.problem)]
    Refused(Failure),
}

impl Unanswered {
    /// For the count.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Unable => "unable",
            Self::Busy => "busy",
            Self::Late(_) => "late",
            Self::Gone => "gone",
            Self::TooLarge { .. } => "too_large",
            Self::Foreign => "foreign",
            Self::Refused(_) => "refused",
        }
    }
}

/// Why an answer is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// It was never asked.
    Unasked,
    /// Nobody waits for it any more.
    Late,
    /// It is that to another question.
    Foreign,
    /// It is larger than it may be.
    TooLarge,
}

impl Ignored {
    /// For the count.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unasked => "unasked",
            Self::Late => "late",
            Self::Foreign => "foreign",
            Self::TooLarge => "too_large",
        }
    }
}

/// The end of a sidecar's stream at which it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Asks {
    /// Boxed: each stream has such a channel, with room for more than it may hold.
    queue: mpsc::Sender<Box<Asking>>,
    places: Arc<Semaphore>,
}

/// A question, and who waits for its answer.
#[derive(Debug)]
pub(super) struct Asking {
    question: Question,
    reply: oneshot::Sender<Result<Answer, Unanswered>>,
}

impl Asks {
    /// Both ends.
    pub(super) fn new() -> (Self, mpsc::Receiver<Box<Asking>>) {
        let (queue, asked) = mpsc::channel(MOST);
        (Self { queue, places: Arc::new(Semaphore::new(MOST)) }, asked)
    }

    /// Asks, and waits for the answer as long as there is patience.
    pub(crate) async fn ask(&self, question: Question, patience: Duration) -> Result<Answer, Unanswered> {
        let _place = self.places.try_acquire().map_err(|_| Unanswered::Busy)?;
        let (reply, answered) = oneshot::channel();
        self.queue.try_send(Box::new(Asking { question, reply })).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
            mpsc::error::TrySendError::Closed(_) => Unanswered::Gone,
        })?;
        match time::timeout(patience, answered).await {
            Ok(Ok(Ok(Answer::Failure(failure)))) => Err(Unanswered::Refused(failure)),
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Unanswered::Gone),
            Err(_) => Err(Unanswered::Late(patience)),
        }
    }
}

/// The questions that are on their way. Pure but for those who wait.
#[derive(Debug)]
pub(super) struct OnTheirWay {
    most_bytes: usize,
    last: u64,
    waiting: BTreeMap<u64, (Kind, oneshot::Sender<Result<Answer, Unanswered>>)>,
}

impl OnTheirWay {
    /// `message_bytes`: the most that a message of the stream may have.
    pub(super) fn new(message_bytes: usize) -> Self {
        let most_bytes = LARGEST.min(message_bytes.saturating_sub(FRAME));
        Self { most_bytes, last: 0, waiting: BTreeMap::new() }
    }

    /// What to send; `None`: nobody waits for it any more.
    pub(super) fn ask(&mut self, Asking { question, reply }: Asking) -> Option<Ask> {
        self.waiting.retain(|_, (_, reply)| !reply.is_closed());
        if reply.is_closed() {
            return None;
        }
        self.last += 1;
        self.waiting.insert(self.last, (kind(&question), reply));
        let most_bytes = u32::try_from(self.most_bytes).unwrap_or(u32::MAX);
        Some(Ask { id: self.last, most_bytes, question: Some(question) })
    }

    /// Hands an answer to who waits for it; or says why it is ignored.
    pub(super) fn told(&mut self, told: Told) -> Result<(), Ignored> {
        let (id, found) = (told.id, told.encoded_len());
        let Some((kind, reply)) = self.waiting.remove(&id) else {
            return Err(if (1..=self.last).contains(&id) { Ignored::Late } else { Ignored::Unasked });
        };
        let (answer, ignored) = match told.answer {
            _ if found > self.most_bytes => {
                (Err(Unanswered::TooLarge { found, most: self.most_bytes }), Some(Ignored::TooLarge))
            }
            Some(answer) if fits(kind, &answer) => (Ok(answer), None),
            _ => (Err(Unanswered::Foreign), Some(Ignored::Foreign)),
        };
        match (reply.send(answer), ignored) {
            (_, Some(ignored)) => Err(ignored),
            (Err(_), None) => Err(Ignored::Late),
            (Ok(()), None) => Ok(()),
        }
    }
}

/// Which question it is.
pub(crate) fn kind(question: &Question) -> Kind {
    match question {
        Question::Explain(_) => Kind::Explain,
        Question::Configuration(_) => Kind::Configuration,
        Question::Drain(_) => Kind::Drain,
    }
}

fn fits(kind: Kind, answer: &Answer) -> bool {
    match answer {
        Answer::Failure(_) => true,
        Answer::Explanation(_) => kind == Kind::Explain,
        Answer::Configuration(_) => kind == Kind::Configuration,
        Answer::Draining(_) => kind == Kind::Drain,
    }
}

#[cfg(test)]
mod tests {
    use trama_proto::{
        discovery::v1::{Configuration, ConfigurationQuestion, Draining},
        explain::v1::Explanation,
    };

    use super::*;

    const LARGE: usize = 1 << 20;

    fn question() -> Question {
        Question::Configuration(ConfigurationQuestion::default())
    }

    fn asking() -> (Asking, oneshot::Receiver<Result<Answer, Unanswered>>) {
        let (reply, answered) = oneshot::channel();
        (Asking { question: question(), reply }, answered)
    }

    fn configuration(id: u64, revision: &str) -> Told {
        let configuration = Configuration { revision: revision.to_owned(), ..Configuration::default() };
        Told { id, answer: Some(Answer::Configuration(configuration)) }
    }

    #[test]
    fn an_answer_reaches_who_asked_it_in_any_order_and_once() {
        let mut asked = OnTheirWay::new(LARGE);
        let [(one, mut first), (two, mut second)] = [asking(), asking()];
        let [one, two] = [one, two].map(|asking| asked.ask(asking).unwrap());
        assert_ne!(one.id, two.id);
        assert_eq!(one.most_bytes as usize, LARGE - FRAME);
        asked.told(configuration(two.id, "two")).unwrap();
        asked.told(configuration(one.id, "one")).unwrap();
        for (answered, revision) in [(&mut first, "one"), (&mut second, "two")] {
            let Ok(Ok(Answer::Configuration(told))) = answered.try_recv() else { panic!("{revision}") };
            assert_eq!(told.revision, revision);
        }
        assert_eq!(asked.told(configuration(one.id, "again")), Err(Ignored::Late));
    }

    #[test]
    fn what_was_not_asked_is_ignored_and_a_lie_is_told_to_who_waits() {
        let mut asked = OnTheirWay::new(LARGE);
        for id in [0, 1, 7] {
            assert_eq!(asked.told(configuration(id, "x")), Err(Ignored::Unasked));
        }
        for answer in [
            None,
            Some(Answer::Explanation(Explanation::default())),
            Some(Answer::Draining(Draining::default())),
        ] {
            let (asking, mut answered) = asking();
            let id = asked.ask(asking).unwrap().id;
            assert_eq!(asked.told(Told { id, answer }), Err(Ignored::Foreign));
            assert_eq!(answered.try_recv().unwrap(), Err(Unanswered::Foreign));
        }
        let mut asked = OnTheirWay::new(100 + FRAME);
        let (asking, mut answered) = asking();
        let id = asked.ask(asking).unwrap().id;
        assert_eq!(asked.told(configuration(id, &"x".repeat(100))), Err(Ignored::TooLarge));
        assert!(matches!(answered.try_recv(), Ok(Err(Unanswered::TooLarge { most: 100, .. }))));
    }

    #[test]
    fn nobody_is_asked_for_who_has_left() {
        let mut asked = OnTheirWay::new(LARGE);
        let (gone, answered) = asking();
        drop(answered);
        assert_eq!(asked.ask(gone), None);
        let (leaving, answered) = asking();
        let id = asked.ask(leaving).unwrap().id;
        drop(answered);
        assert_eq!(asked.told(configuration(id, "x")), Err(Ignored::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_never_answers_is_not_waited_for_and_is_asked_no_more_than_so_often() {
        let (asks, mut asked) = Asks::new();
        let began = time::Instant::now();
        let waiting: Vec<_> = (0..MOST)
            .map(|_| {
                let asks = asks.clone();
                tokio::spawn(async move { asks.ask(question(), PATIENCE).await })
            })
            .collect();
        let mut heard = Vec::new();
        for _ in 0..MOST {
            heard.push(asked.recv().await.unwrap());
        }
        assert_eq!(asks.ask(question(), PATIENCE).await, Err(Unanswered::Busy));
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), Err(Unanswered::Late(PATIENCE)));
        }
        assert_eq!(began.elapsed(), PATIENCE);
        // And then there is room again.
        let again = tokio::spawn({
            let asks = asks.clone();
            async move { asks.ask(question(), PATIENCE).await }
        });
        drop(asked.recv().await.unwrap());
        assert_eq!(again.await.unwrap(), Err(Unanswered::Gone));
        drop(asked);
        assert_eq!(asks.ask(question(), PATIENCE).await, Err(Unanswered::Gone));
    }
}
