//! What the spans of sidecars say, by name: sidecars write it, the control plane and `tramactl` read it.

use crate::admin::v1::{Attribute, TraceSpan, attribute::Value};

/// The names of what a span or its resource says. Those beneath `trama.` are ours, the others OpenTelemetry's (semantic
/// conventions 1.x, stable).
#[allow(missing_docs, reason = "the book's page of the control plane says what each of them is")]
pub mod key {
    pub const ATTEMPT: &str = "trama.attempt";
    pub const DIRECTION: &str = "trama.direction";
    pub const IDENTITY: &str = "trama.identity";
    pub const PEER_IDENTITY: &str = "trama.peer.identity";
    pub const PEER_SERVICE: &str = "trama.peer.service";
    pub const REGION: &str = "trama.region";
    pub const REGION_WHY: &str = "trama.region.why";
    pub const REGIONS_PASSED_OVER: &str = "trama.regions.passed_over";
    pub const REVISION: &str = "trama.policy.revision";
    pub const ROUTE: &str = "trama.route";
    pub const ROUTES_LEFT_OUT: &str = "trama.routes.left_out";
    pub const ROUTES_REJECTED: &str = "trama.routes.rejected";
    pub const SERVICE: &str = "trama.service";
    pub const TLS: &str = "trama.tls";

    pub const CLOUD_REGION: &str = "cloud.region";
    pub const ERROR_TYPE: &str = "error.type";
    pub const HTTP_METHOD: &str = "http.request.method";
    pub const HTTP_STATUS: &str = "http.response.status_code";
    pub const PEER_ADDRESS: &str = "network.peer.address";
    pub const PEER_PORT: &str = "network.peer.port";
    pub const SERVICE_NAME: &str = "service.name";
    pub const SERVICE_NAMESPACE: &str = "service.namespace";
    pub const URL_PATH: &str = "url.path";
}

/// How a region without a name is called where one must stand.
const NO_REGION: &str = "no region";

/// A region that was passed over, with the reason. An empty name is that of endpoints which name none.
pub fn region_passed_over(region: &str, why: &str) -> String {
    not_chosen(if region.is_empty() { NO_REGION } else { region }, why)
}

/// The region and the reason.
pub fn read_region_passed_over(told: &str) -> (&str, &str) {
    let (region, why) = read_not_chosen(told);
    (if region == NO_REGION { "" } else { region }, why)
}

/// What was not chosen, with the reason.
pub fn not_chosen(what: &str, why: &str) -> String {
    format!("{what}: {why}")
}

/// What was not chosen, and the reason.
pub fn read_not_chosen(told: &str) -> (&str, &str) {
    told.split_once(": ").unwrap_or((told, ""))
}

impl TraceSpan {
    /// What it says by this name.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|Attribute { key: found, .. }| found == key)?.value.as_ref()
    }

    /// A text; empty where it says none.
    pub fn text(&self, key: &str) -> &str {
        match self.value(key) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// Texts; none where it says none.
    pub fn texts(&self, key: &str) -> &[String] {
        match self.value(key) {
            Some(Value::Texts(list)) => &list.texts,
            _ => &[],
        }
    }

    /// A number.
    pub fn number(&self, key: &str) -> Option<i64> {
        match self.value(key) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// Address and port at the other end, as one writes them; empty where it says none.
    pub fn peer(&self) -> String {
        let address = self.text(key::PEER_ADDRESS);
        match (self.number(key::PEER_PORT), address.contains(':')) {
            (Some(port), true) => format!("[{address}]:{port}"),
            (Some(port), false) if !address.is_empty() => format!("{address}:{port}"),
            _ => address.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::v1::TextList;

    fn span(pairs: &[(&str, Value)]) -> TraceSpan {
        let attribute =
            |(key, value): &(&str, Value)| Attribute { key: (*key).to_owned(), value: Some(value.clone()) };
        TraceSpan { attributes: pairs.iter().map(attribute).collect(), ..TraceSpan::default() }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn a_span_is_asked_by_name_and_kind() {
        let list = Value::Texts(TextList { texts: vec!["a".to_owned()] });
        let span =
            span(&[(key::ROUTE, text("shop/orders/all")), (key::ATTEMPT, Value::Number(2)), ("l", list)]);
        assert_eq!(
            (span.text(key::ROUTE), span.text(key::ATTEMPT), span.text("none")),
            ("shop/orders/all", "", "")
        );
        assert_eq!((span.number(key::ATTEMPT), span.number(key::ROUTE)), (Some(2), None));
        assert_eq!((span.texts("l"), span.texts(key::ROUTE)), (&["a".to_owned()][..], &[][..]));
    }

    #[test]
    fn a_peer_is_written_as_an_address_and_a_port() {
        for (address, port, expected) in [
            ("10.0.0.7", Some(80), "10.0.0.7:80"),
            ("fd00::7", Some(80), "[fd00::7]:80"),
            ("10.0.0.7", None, "10.0.0.7"),
            ("", Some(80), ""),
        ] {
            let mut pairs = vec![(key::PEER_ADDRESS, text(address))];
            pairs.extend(port.map(|port| (key::PEER_PORT, Value::Number(port))));
            assert_eq!(span(&pairs).peer(), expected);
        }
    }

    #[test]
    fn what_was_not_chosen_is_read_as_it_was_written() {
        for region in ["rio", ""] {
            assert_eq!(read_region_passed_over(&region_passed_over(region, "tried")), (region, "tried"));
        }
        assert_eq!(read_not_chosen(&not_chosen("shop/orders/v1", "a: b")), ("shop/orders/v1", "a: b"));
        assert_eq!(read_not_chosen("rio"), ("rio", ""));
    }
}
