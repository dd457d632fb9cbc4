//! What of a request may be kept: who sends it may write spans as itself alone, and only so many, so large. Pure.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
};
use prost::{DecodeError, Message};
use trama_proto::{
    span::key::{IDENTITY, SERVICE_NAMESPACE},
    spiffe::SpiffeId,
};

use super::{
    span::{KeptSpan, Origin},
    wire::{ExportRequest, RawResourceSpans, RawScopeSpans},
};

/// A span of a sidecar has about a kilobyte, most of it the path asked for; a resource has less.
const MOST_BYTES: usize = 64 * 1024;

/// Why a span is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// It says that somebody else wrote it.
    Foreign,
    /// It is no span, or has no trace's or span's id.
    Malformed,
    /// It, or its resource, has more than 64 KiB.
    TooLarge,
    /// It is beyond what a request may bring.
    TooMany,
    /// It is beyond what its sender may bring each second.
    Flood,
}

impl Refusal {
    /// Its name, for counts and for the sender.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooMany => "too_many",
            Self::Flood => "flood",
        }
    }
}

/// How many spans are refused, by reason.
pub(super) type Refused = BTreeMap<Refusal, u64>;

/// What is left of a request.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    pub(super) spans: Vec<Arc<KeptSpan>>,
    pub(super) refused: Refused,
}

impl Admitted {
    fn refuse(&mut self, why: Refusal, spans: usize) {
        if spans > 0 {
            *self.refused.entry(why).or_default() += spans as u64;
        }
    }
}

/// Keeps what the sender may write, at most `most` spans. An error: this is no request at all.
pub(super) fn admit(request: ExportRequest, sender: &SpiffeId, most: usize) -> Result<Admitted, DecodeError> {
    let mut admitted = Admitted::default();
    for resource_spans in request.resource_spans {
        let RawResourceSpans { resource, scope_spans, schema_url } =
            RawResourceSpans::decode(resource_spans)?;
        let resource = judged(resource, sender)?;
        for scope_spans in scope_spans {
            let RawScopeSpans { scope, spans, schema_url: scope_schema } =
                RawScopeSpans::decode(scope_spans)?;
            let resource = match &resource {
                Ok(_) if scope.len() > MOST_BYTES => Err(Refusal::TooLarge),
                Ok(resource) => Ok(resource.clone()),
                Err(why) => Err(*why),
            };
            match resource {
                Ok(resource) => {
                    let origin = Origin {
                        sender: sender.clone(),
                        resource,
                        resource_schema: schema_url.clone(),
                        scope: Some(InstrumentationScope::decode(scope)?),
                        scope_schema,
                    };
                    take(&mut admitted, origin, spans, most);
                }
                Err(why) => admitted.refuse(why, spans.len()),
            }
        }
    }
    Ok(admitted)
}

/// The resource as it is kept, or why its spans are not.
fn judged(resource: Bytes, sender: &SpiffeId) -> Result<Result<Resource, Refusal>, DecodeError> {
    if resource.len() > MOST_BYTES {
        return Ok(Err(Refusal::TooLarge));
    }
    let resource = Resource::decode(resource)?;
    Ok(if is_own(&resource, sender) { Ok(stamped(resource, sender)) } else { Err(Refusal::Foreign) })
}

fn take(admitted: &mut Admitted, origin: Origin, mut spans: Vec<Bytes>, most: usize) {
    let own = origin.resource.encoded_len() + origin.scope.as_ref().map_or(0, Message::encoded_len);
    let (origin, own) = (Arc::new(origin), own as u64);
    let room = most.saturating_sub(admitted.spans.len()).min(spans.len());
    admitted.refuse(Refusal::TooMany, spans.len() - room);
    spans.truncate(room);
    // Each pays its part: else many small requests with large resources would be cheap.
    let beside = own / room.max(1) as u64;
    for span in spans {
        if span.len() > MOST_BYTES {
            admitted.refuse(Refusal::TooLarge, 1);
            continue;
        }
        match KeptSpan::of(&span, &origin, beside) {
            Some(span) => admitted.spans.push(Arc::new(span)),
            None => admitted.refuse(Refusal::Malformed, 1),
        }
    }
}

/// Whether nothing in a resource says that it is somebody else's. What it says of its service cannot be judged: an
/// identity is a workload's.
fn is_own(resource: &Resource, sender: &SpiffeId) -> bool {
    resource.attributes.iter().all(|pair| {
        let said = pair.value.as_ref().and_then(|value| value.value.as_ref());
        let is = |right: &str| matches!(said, Some(Value::StringValue(said)) if said == right);
        match pair.key.as_str() {
            IDENTITY => is(sender.as_str()),
            SERVICE_NAMESPACE => sender.namespace().is_none_or(is),
            _ => true,
        }
    })
}

/// With the certificate's identity in it, whatever the sender says.
fn stamped(mut resource: Resource, sender: &SpiffeId) -> Resource {
    resource.attributes.retain(|pair| pair.key != IDENTITY);
    let value = AnyValue { value: Some(Value::StringValue(sender.as_str().to_owned())) };
    let pair = KeyValue { key: IDENTITY.to_owned(), value: Some(value), ..KeyValue::default() };
    resource.attributes.push(pair);
    resource
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::Span;

    use super::{
        super::{span::text, testing::*},
        *,
    };

    fn admitted(resource: &[(&str, &str)], spans: Vec<Span>, most: usize) -> Admitted {
        admit(request(resource, spans), &sender("orders"), most).unwrap()
    }

    fn refused(admitted: &Admitted) -> Vec<(&'static str, u64)> {
        admitted.refused.iter().map(|(why, spans)| (why.name(), *spans)).collect()
    }

    #[test]
    fn whoever_sends_is_stamped_on_every_span() {
        let admitted = admitted(&[("cloud.region", "rio")], vec![span(1, 1)], 10);
        assert_eq!((admitted.spans.len(), refused(&admitted)), (1, vec![]));
        let resource = &admitted.spans[0].origin.resource.attributes;
        assert_eq!(text(resource, IDENTITY), Some(sender("orders").as_str()));
        assert_eq!(text(resource, "cloud.region"), Some("rio"));
    }

    #[test]
    fn nobody_writes_as_somebody_else() {
        let sender = sender("orders");
        for foreign in [
            &[(IDENTITY, "spiffe://mesh.test/ns/shop/sa/prices")][..],
            &[(IDENTITY, sender.as_str()), (IDENTITY, "")],
            &[("service.namespace", "bank")],
        ] {
            let admitted = admitted(foreign, vec![span(1, 1), span(1, 2)], 10);
            assert_eq!((admitted.spans.len(), refused(&admitted)), (0, vec![("foreign", 2)]), "{foreign:?}");
        }
        let own = [(IDENTITY, sender.as_str()), ("service.namespace", "shop")];
        let admitted = admitted(&own, vec![span(1, 1)], 10);
        assert_eq!(admitted.spans.len(), 1);
        let attributes = &admitted.spans[0].origin.resource.attributes;
        assert_eq!(attributes.iter().filter(|pair| pair.key == IDENTITY).count(), 1);
    }

    #[test]
    fn what_is_ill_formed_too_large_or_too_much_is_refused_and_the_rest_is_kept() {
        let spans = vec![
            Span { trace_id: vec![0; 16], ..span(1, 1) },
            Span { span_id: vec![1; 7], ..span(1, 1) },
            Span { name: "x".repeat(MOST_BYTES), ..span(1, 1) },
            span(1, 1),
            span(1, 2),
        ];
        let all = admitted(&[], spans.clone(), 10);
        assert_eq!((all.spans.len(), refused(&all)), (2, vec![("malformed", 2), ("too_large", 1)]));
        let one = admitted(&[], spans[3..].to_vec(), 1);
        assert_eq!((one.spans.len(), refused(&one)), (1, vec![("too_many", 1)]));
        let large = admitted(&[("note", &"x".repeat(MOST_BYTES))], vec![span(1, 1)], 10);
        assert_eq!((large.spans.len(), refused(&large)), (0, vec![("too_large", 1)]));
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        let broken = ExportRequest { resource_spans: vec![Bytes::from_static(b"\xff")] };
        assert!(admit(broken, &sender("orders"), 10).is_err());
    }

    #[test]
    fn a_large_resource_is_paid_for() {
        let large = "x".repeat(10_000);
        let weight = |spans| {
            let admitted = admitted(&[("note", &large)], spans, 10);
            admitted.spans.iter().map(|span| span.weight()).sum::<u64>()
        };
        assert!(weight(vec![span(1, 1)]) > 10_000);
        assert!(weight(vec![span(1, 1), span(1, 2)]) < 20_000);
    }
}
