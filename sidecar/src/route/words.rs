//! Why a condition does not decide, in words: the same ones in explanations and in spans. Values of header fields and of query
//! parameters are not told, because people put secrets there.

use std::borrow::Cow;

use super::{Inquiry, Precedence, Unmet};
use crate::config::snapshot::Match;

/// Characters that are told of a host, a path or a name: there may be thousands.
const MOST_SHOWN: usize = 100;

impl Unmet<'_> {
    /// What does not hold of the condition that it is a part of.
    pub fn words(&self, condition: &Match, request: &Inquiry<'_>) -> String {
        let of = |sent: &bool| if *sent { "has another value" } else { "is not sent" };
        match self {
            Self::Host => format!("the host is `{}`", shortened(request.host)),
            Self::Path => format!("the path is `{}`", shortened(request.path)),
            Self::Method => {
                let wanted = condition.method.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("the method is {}, not {wanted}", request.method)
            }
            Self::Header { name, sent } => format!("header `{}` {}", shortened(name.as_str()), of(sent)),
            Self::Query { name, sent } => format!("query parameter `{}` {}", shortened(name), of(sent)),
        }
    }
}

impl Precedence {
    /// What the condition that comes first has before the other one.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Host => "the chosen one has a more specific host",
            Self::Path => "the chosen one has a more specific path",
            Self::Method => "the chosen one names a method",
            Self::Headers => "the chosen one has more conditions on headers",
            Self::Query => "the chosen one has more conditions on query parameters",
            Self::Order => "the chosen one comes first in the policy",
        }
    }
}

fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_shortened_and_no_character_is_cut() {
        assert_eq!(shortened(&"é".repeat(MOST_SHOWN)), "é".repeat(MOST_SHOWN));
        assert_eq!(shortened(&"é".repeat(MOST_SHOWN + 1)), "é".repeat(MOST_SHOWN) + "…");
    }
}
