//! Filters as policy says them. A worker makes a chain of them when it first needs it.

use std::net::IpAddr;

use super::{cidr::Cidr, route::HeaderModifier};

/// Filters in their order, never none.
#[derive(Debug)]
pub struct FilterChain(pub Vec<FilterSpec>);

/// One filter.
#[derive(Clone, Debug)]
pub enum FilterSpec {
    /// Changes headers of the request.
    RequestHeaders(HeaderModifier),
    /// Changes headers of the answer.
    ResponseHeaders(HeaderModifier),
    /// Lets only some addresses connect.
    Sources(SourceRanges),
}

/// Which addresses may connect.
#[derive(Clone, Debug, Default)]
pub struct SourceRanges {
    /// If there are any, only these.
    pub allow: Vec<Cidr>,
    /// Not these, whatever `allow` says.
    pub deny: Vec<Cidr>,
}

impl SourceRanges {
    /// Whether this address may connect.
    pub fn permits(&self, source: IpAddr) -> bool {
        let among = |ranges: &[Cidr]| ranges.iter().any(|range| range.contains(source));
        !among(&self.deny) && (self.allow.is_empty() || among(&self.allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_goes_over_allow_and_without_allow_all_others_may() {
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let both = SourceRanges { allow: ranges(&["10.0.0.0/8"]), deny: ranges(&["10.1.0.0/16"]) };
        let permits = |source: &str| both.permits(source.parse().unwrap());
        assert_eq!((permits("10.0.0.1"), permits("10.1.0.1"), permits("11.0.0.1")), (true, false, false));
        let only_deny = SourceRanges { allow: Vec::new(), ..both };
        assert!(only_deny.permits("11.0.0.1".parse().unwrap()));
    }
}
