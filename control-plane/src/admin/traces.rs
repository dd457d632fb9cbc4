//! Traces of the last while.

use tonic::Status;
use trama_proto::{
    QualifiedName,
    admin::v1::{GetTraceRequest, ListTracesRequest, ListTracesResponse, Trace},
    document::Resource,
};

use super::{Shared, error, read};
use crate::traces::{Filter, Page, TraceId};

/// The longest name that anything has.
const LONGEST: usize = 512;

impl Shared {
    pub(super) fn list_traces(&self, request: ListTracesRequest) -> Result<ListTracesResponse, Status> {
        let size = read::page_size(request.page_size)?;
        let token = request.page_token.clone();
        let page = self.traces.page(&filter(request)?, size, &token);
        let Page { traces, next } = page.ok_or_else(|| read::bad_token(&token))?;
        Ok(ListTracesResponse { traces, next_page_token: next })
    }

    pub(super) fn get_trace(&self, GetTraceRequest { id }: &GetTraceRequest) -> Result<Trace, Status> {
        let problem = "write the trace's id as 32 hexadecimal digits, not all of them 0";
        let parsed = trace_id(id).ok_or_else(|| error::field("id", id, problem))?;
        self.traces.trace(&parsed).ok_or_else(|| error::no_trace(id, self.sampled(), self.traces.reach()))
    }

    /// The share of requests that policy has traced, in percent.
    fn sampled(&self) -> f64 {
        self.mirror.look(|world| {
            let spec = world.resources().find_map(|(_, held)| match held.resource() {
                Resource::Telemetry(telemetry) => telemetry.spec.as_ref(),
                _ => None,
            });
            spec.and_then(|spec| spec.tracing.as_ref()?.sampling_percent).unwrap_or_default()
        })
    }
}

fn filter(request: ListTracesRequest) -> Result<Filter, Status> {
    let ListTracesRequest { service, route, region, status, failed, reason, .. } = request;
    for (field, text) in [("service", &service), ("route", &route), ("region", &region), ("reason", &reason)]
    {
        if text.len() > LONGEST {
            let problem = format!("longer than {LONGEST} characters, as no name is");
            return Err(error::field(field, text, &problem));
        }
    }
    if !service.is_empty()
        && let Err(remedy) = QualifiedName::parse(&service)
    {
        return Err(error::field("service", &service, remedy));
    }
    if status != 0 && !(100..=599).contains(&status) {
        return Err(error::field("status", &status.to_string(), "write an HTTP status, 100 to 599"));
    }
    let (after, before) = (request.after, request.before);
    if before != 0 && before <= after {
        let problem =
            format!("nothing begins before this and not before `after` ({after}); give a later one");
        return Err(error::field("before", &before.to_string(), &problem));
    }
    let status = u16::try_from(status).unwrap_or_default();
    let min_duration = request.min_duration;
    Ok(Filter { service, route, region, status, failed, reason, min_duration, after, before })
}

fn trace_id(text: &str) -> Option<TraceId> {
    let is_digit = |byte: u8| byte.is_ascii_hexdigit();
    let number = u128::from_str_radix(text, 16).ok();
    let number = number.filter(|number| *number != 0 && text.len() == 32 && text.bytes().all(is_digit));
    number.map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn violation(request: ListTracesRequest) -> (String, String) {
        let status = filter(request).unwrap_err();
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        (violation.field.clone(), violation.description.clone())
    }

    #[test]
    fn a_filter_that_can_take_nothing_is_refused_with_the_remedy() {
        let none = ListTracesRequest::default;
        for (request, field, remedy) in [
            (ListTracesRequest { service: "orders".into(), ..none() }, "service", "`namespace/name`"),
            (ListTracesRequest { service: "a/b/c".into(), ..none() }, "service", "`namespace/name`"),
            (
                ListTracesRequest { service: "a//b".into(), ..none() },
                "service",
                "`namespace/name`, got `a//b`",
            ),
            (ListTracesRequest { status: 99, ..none() }, "status", "100 to 599"),
            (ListTracesRequest { status: 600, ..none() }, "status", "got `600`"),
            (ListTracesRequest { after: 5, before: 5, ..none() }, "before", "later"),
            (ListTracesRequest { reason: "x".repeat(513), ..none() }, "reason", "longer than 512"),
        ] {
            let (found, description) = violation(request);
            assert_eq!(found, field);
            assert!(description.contains(remedy), "{description}");
        }
        let good = ListTracesRequest { service: "shop/orders".into(), status: 503, before: 7, ..none() };
        let Filter { service, status, before, .. } = filter(good).unwrap();
        assert_eq!((service.as_str(), status, before), ("shop/orders", 503, 7));
    }

    #[test]
    fn an_id_is_32_digits_that_are_not_all_zero() {
        assert_eq!(trace_id("4bf92f3577b34da6a3ce929d0e0e4736").unwrap()[..2], [0x4b, 0xf9]);
        let [zero, short, signed, word] =
            ["0", "4bf9", "+bf92f3577b34da6a3ce929d0e0e4736", "xbf92f3577b34da6a3ce929d0e0e4736"];
        for bad in [&zero.repeat(32), "", short, signed, word] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }
}
