//! What the control plane asks of this sidecar on its stream, answered beside everything else that goes on there: by what the
//! admin port would answer.

use std::{panic, sync::Arc, time::Duration};

use prost::Message as _;
use tokio::{
    task::{self, JoinSet},
    time::sleep,
};
use tracing::{info, warn};
use trama_proto::{
    Problem, Problems,
    discovery::v1::{
        Ask, Configuration, ConfigurationQuestion, DrainQuestion, Draining, Failure, Hello, SidecarMessage,
        Told,
        ask::{Kind, Question},
        draining::What,
        failure::Reason,
        sidecar_message::Message,
        told::Answer,
    },
    structure,
};

use crate::admin::{
    self, Drain, State,
    policy::{self, Layout, Part, TooLarge},
};

/// Questions that are being answered at one time.
const MOST: usize = 16;
/// Until a drain begins that ends this process: the answer must have left by then.
const PARTING: Duration = Duration::from_millis(100);
/// What an answer's frame takes of its bytes.
const FRAME: usize = 64;

/// The questions of [`Ask`] that are answered here, for the Hello.
pub(super) fn answers() -> Vec<i32> {
    [Kind::Explain, Kind::Configuration, Kind::Drain].map(i32::from).to_vec()
}

/// What is asked on one stream. It is given up with it.
pub(super) struct Asked {
    state: Arc<dyn State>,
    answering: JoinSet<Told>,
}

impl Asked {
    pub(super) fn new(state: Arc<dyn State>) -> Self {
        Self { state, answering: JoinSet::new() }
    }

    /// Begins to answer a question. `holds` tells what is held, which takes a while where it is much.
    pub(super) fn take(&mut self, ask: Ask, holds: impl FnOnce() -> Hello) {
        let Ask { id, most_bytes, question } = ask;
        let (state, busy) = (Arc::clone(&self.state), self.answering.len() >= MOST);
        let held = match question {
            Some(Question::Configuration(_)) if !busy => holds(),
            _ => Hello::default(),
        };
        self.answering.spawn(async move {
            let answer = if busy {
                failed(Reason::Busy, format!("{MOST} questions are being answered; ask again"))
            } else {
                answer(question, held, &state, most_bytes).await
            };
            bounded(Told { id, answer: Some(answer) }, most_bytes)
        });
    }

    /// The next answer that is ready; waits for ever where nothing is asked.
    pub(super) async fn told(&mut self) -> SidecarMessage {
        match self.answering.join_next().await {
            Some(Ok(told)) => SidecarMessage { message: Some(Message::Told(Box::new(told))) },
            Some(Err(ended)) => match ended.try_into_panic() {
                Ok(panic) => panic::resume_unwind(panic),
                // The runtime ends, and this with it.
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}

async fn answer(question: Option<Question>, held: Hello, state: &Arc<dyn State>, most_bytes: u32) -> Answer {
    match question {
        Some(Question::Explain(described)) => match admin::explained(&described, &**state).await {
            Ok(explanation) => Answer::Explanation(explanation),
            Err(problems) => refused(&problems),
        },
        Some(Question::Configuration(question)) => {
            let state = Arc::clone(state);
            // Of a large mesh it takes a while, and admin, metrics and health are answered on this thread.
            let telling = task::spawn_blocking(move || configuration(&question, held, &*state, most_bytes));
            match telling.await {
                Ok(Ok(told)) => Answer::Configuration(told),
                Ok(Err(problem)) => refused(&Problems(vec![*problem])),
                Err(ended) => match ended.try_into_panic() {
                    Ok(panic) => panic::resume_unwind(panic),
                    // The runtime ends, and this with it.
                    Err(_) => std::future::pending().await,
                },
            }
        }
        Some(Question::Drain(question)) => drain(question, state),
        None => failed(Reason::Unknown, "this version of the sidecar does not know the question".to_owned()),
    }
}

fn configuration(
    ConfigurationQuestion { service }: &ConfigurationQuestion,
    Hello { held, refused, .. }: Hello,
    state: &dyn State,
    most_bytes: u32,
) -> Result<Configuration, Box<Problem>> {
    let (part, snapshot) = (Part::of(service)?, state.snapshot());
    let mut told = Configuration {
        revision: snapshot.revision.to_string(),
        origin: snapshot.origin.name().to_owned(),
        held,
        refused,
        draining: state.draining().map(draining),
        configuration: structure(state.configuration()),
        ..Configuration::default()
    };
    let room = (most_bytes as usize).saturating_sub(told.encoded_len() + FRAME);
    match policy::written((&snapshot, state.now()), &part, Layout::Compact, room)? {
        Ok(policy) => told.policy = policy,
        Err(TooLarge { bytes }) => {
            warn!(
                bytes,
                room, "the compiled policy is too large for the control plane; it is told without it"
            );
            told.policy_left_out = bytes as u64;
        }
    }
    Ok(told)
}

fn drain(DrainQuestion { what }: DrainQuestion, state: &Arc<dyn State>) -> Answer {
    let what = match What::try_from(what) {
        Ok(What::Inbound) => Drain::Inbound,
        Ok(What::All) => Drain::All,
        Ok(What::Unspecified) | Err(_) => {
            let problem = format!("{what} is nothing that this version can drain; say INBOUND or ALL");
            let reason = Reason::Refused.into();
            return Answer::Failure(Failure { reason, field: "what".to_owned(), problem });
        }
    };
    info!(?what, "the control plane asks this sidecar to drain");
    match what {
        Drain::Inbound => state.drain(what),
        Drain::All => {
            let state = Arc::clone(state);
            tokio::spawn(async move {
                sleep(PARTING).await;
                state.drain(what);
            });
        }
    }
    // It may be further already.
    Answer::Draining(draining(match state.draining() {
        Some(Drain::All) => Drain::All,
        _ => what,
    }))
}

fn draining(what: Drain) -> Draining {
    let what = match what {
        Drain::Inbound => What::Inbound,
        Drain::All => What::All,
    };
    Draining { what: what.into() }
}

fn refused(problems: &Problems) -> Answer {
    let reason = Reason::Refused.into();
    let Some(Problem { field, value, problem, remedy, .. }) = problems.0.first() else {
        return failed(Reason::Refused, problems.to_string());
    };
    Answer::Failure(Failure {
        reason,
        field: field.clone(),
        problem: format!("{problem}, got {value}; {remedy}"),
    })
}

fn failed(reason: Reason, problem: String) -> Answer {
    Answer::Failure(Failure { reason: reason.into(), field: String::new(), problem })
}

/// The same, or that it is too large.
fn bounded(told: Told, most_bytes: u32) -> Told {
    let bytes = told.encoded_len();
    if bytes <= most_bytes as usize {
        return told;
    }
    warn!(bytes, most_bytes, "an answer is too large for the control plane");
    let problem = format!(
        "the answer has {bytes} bytes, more than the {most_bytes} that are taken; ask the sidecar's own admin port"
    );
    Told { answer: Some(failed(Reason::TooLarge, problem)), ..told }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use trama_proto::{discovery::v1::HeldResource, explain::v1::DescribedRequest};

    use super::*;
    use crate::{
        admin::Looking,
        authz::Gate,
        balance::Loads,
        config::snapshot::{Snapshot, SpiffeId},
    };

    #[derive(Default)]
    struct Fake {
        drained: Mutex<Option<Drain>>,
        /// Whether its workers say nothing.
        mute: bool,
        /// What whoever wants the policy waits for.
        word: Mutex<Option<mpsc::Receiver<()>>>,
    }

    impl State for Fake {
        fn configuration(&self) -> serde_json::Value {
            serde_json::json!({ "limits": { "headerCount": 100 } })
        }
        fn snapshot(&self) -> Arc<Snapshot> {
            if let Some(word) = self.word.lock().unwrap().take() {
                word.recv_timeout(Duration::from_secs(10)).unwrap();
            }
            Arc::default()
        }
        fn now(&self) -> Duration {
            Duration::ZERO
        }
        fn service(&self) -> Arc<str> {
            "shop/orders".into()
        }
        fn identity(&self) -> Option<SpiffeId> {
            SpiffeId::parse("spiffe://mesh.local/ns/shop/sa/orders").ok()
        }
        fn gate(&self) -> Option<Arc<Gate>> {
            Some(Arc::new(Gate { own_ports: vec![15008], ..Gate::default() }))
        }
        fn workers(&self) -> u32 {
            1
        }
        fn loads(&self, _: u32) -> Looking {
            let mute = self.mute;
            Box::pin(async move { if mute { std::future::pending().await } else { Some(Loads::default()) } })
        }
        fn is_started(&self) -> bool {
            true
        }
        fn draining(&self) -> Option<Drain> {
            *self.drained.lock().unwrap()
        }
        fn drain(&self, what: Drain) {
            let mut drained = self.drained.lock().unwrap();
            if *drained != Some(Drain::All) {
                *drained = Some(what);
            }
        }
    }

    const LARGE: u32 = 1 << 20;

    fn explain(url: &str) -> Question {
        Question::Explain(DescribedRequest { url: url.to_owned(), ..DescribedRequest::default() })
    }

    fn held() -> Hello {
        Hello { held: vec![HeldResource { version: 7, ..HeldResource::default() }], ..Hello::default() }
    }

    async fn told(asked: &mut Asked) -> Told {
        let Some(Message::Told(told)) = asked.told().await.message else { panic!("a Told") };
        *told
    }

    async fn asks(state: &Arc<Fake>, question: Option<Question>, most_bytes: u32) -> Answer {
        let mut asked = Asked::new(Arc::clone(state) as Arc<dyn State>);
        asked.take(Ask { id: 3, most_bytes, question }, held);
        let told = told(&mut asked).await;
        assert_eq!(told.id, 3);
        told.answer.unwrap()
    }

    async fn fails(question: Option<Question>, most_bytes: u32) -> Failure {
        match asks(&Arc::default(), question, most_bytes).await {
            Answer::Failure(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_question_is_answered_as_the_admin_port_would() {
        let state = Arc::default();
        let Answer::Explanation(told) = asks(&state, Some(explain("http://orders.shop/")), LARGE).await
        else {
            panic!("an explanation")
        };
        assert!(told.request.contains("orders.shop") && told.knowledge.is_some(), "{told:?}");

        let question = || Some(Question::Configuration(ConfigurationQuestion::default()));
        let Answer::Configuration(told) = asks(&state, question(), LARGE).await else {
            panic!("a configuration")
        };
        assert_eq!((told.held[0].version, told.draining), (7, None));
        let limits = serde_json::to_value(told.configuration.as_ref().unwrap()).unwrap();
        assert_eq!(limits["limits"]["headerCount"].as_f64(), Some(100.0));
        let policy: serde_json::Value = serde_json::from_str(&told.policy).unwrap();
        assert_eq!((&policy["origin"], told.policy_left_out), (&told.origin.clone().into(), 0));
        // What is larger than it may be goes without the policy first, and says how large that is.
        let policy_left_out = told.policy.len() as u64;
        let without = Configuration { policy: String::new(), policy_left_out, ..told.clone() };
        let room = u32::try_from(without.encoded_len() + FRAME).unwrap();
        assert!(told.encoded_len() > room as usize);
        let Answer::Configuration(told) = asks(&state, question(), room).await else { panic!("it fits") };
        assert_eq!(told, without);
    }

    #[tokio::test]
    async fn others_go_on_while_the_policy_is_written() {
        let (tell, word) = mpsc::channel();
        let state = Arc::new(Fake { word: Mutex::new(Some(word)), ..Fake::default() });
        let question = Some(Question::Configuration(ConfigurationQuestion::default()));
        let saying = async { tell.send(()).unwrap() };
        let (answer, ()) = tokio::join!(asks(&state, question, LARGE), saying);
        assert!(matches!(answer, Answer::Configuration(_)), "{answer:?}");
    }

    #[tokio::test]
    async fn what_cannot_be_answered_is_told_with_its_reason() {
        let failure = fails(Some(explain("orders")), LARGE).await;
        assert_eq!((failure.reason(), failure.field.as_str()), (Reason::Refused, "url"));
        assert!(failure.problem.contains("no http URL, got \"orders\"; write"), "{}", failure.problem);
        assert_eq!(fails(None, LARGE).await.reason(), Reason::Unknown);
        let failure = fails(Some(explain("http://orders.shop/")), 20).await;
        assert_eq!(failure.reason(), Reason::TooLarge);
        assert!(failure.problem.contains("more than the 20"), "{}", failure.problem);
        for (service, problem) in [
            ("a//b", "no name of a service, got \"a//b\"; write it as `namespace/name`"),
            ("shop/none", "no service of the policy in force, got \"shop/none\"; leave it out"),
        ] {
            let question = Question::Configuration(ConfigurationQuestion { service: service.to_owned() });
            let failure = fails(Some(question), LARGE).await;
            assert_eq!((failure.reason(), failure.field.as_str()), (Reason::Refused, "service"));
            assert!(failure.problem.starts_with(problem), "{}", failure.problem);
        }
        let nothing = Question::Drain(DrainQuestion { what: 9 });
        let failure = fails(Some(nothing), LARGE).await;
        assert_eq!((failure.reason(), failure.field.as_str()), (Reason::Refused, "what"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_ends_the_process_begins_after_its_answer() {
        let state: Arc<Fake> = Arc::default();
        let drain = |what: What| Some(Question::Drain(DrainQuestion { what: what.into() }));
        let what = |answer| match answer {
            Answer::Draining(draining) => draining.what(),
            other => panic!("{other:?}"),
        };
        assert_eq!(what(asks(&state, drain(What::Inbound), LARGE).await), What::Inbound);
        assert_eq!(state.draining(), Some(Drain::Inbound));
        assert_eq!(what(asks(&state, drain(What::All), LARGE).await), What::All);
        assert_eq!(state.draining(), Some(Drain::Inbound));
        sleep(2 * PARTING).await;
        assert_eq!(state.draining(), Some(Drain::All));
        assert_eq!(what(asks(&state, drain(What::Inbound), LARGE).await), What::All, "it never goes back");
    }

    #[tokio::test(start_paused = true)]
    async fn questions_at_one_time_are_bounded() {
        let mut asked = Asked::new(Arc::new(Fake { mute: true, ..Fake::default() }));
        for id in 0..=MOST as u64 {
            let question = Some(explain("http://orders.shop/"));
            asked.take(Ask { id, most_bytes: LARGE, question }, held);
        }
        let first = told(&mut asked).await;
        assert_eq!(first.id, MOST as u64);
        assert!(matches!(first.answer, Some(Answer::Failure(failure)) if failure.reason() == Reason::Busy));
        for _ in 0..MOST {
            assert!(matches!(told(&mut asked).await.answer, Some(Answer::Explanation(_))));
        }
    }
}
