//! "Did you mean …?"

/// The candidate that `word` is most likely a slip of, if one is close enough.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let fields = ["backendRefs", "filters", "matches", "name"];
        assert_eq!(did_you_mean("backendRef", fields), Some("backendRefs"));
        assert_eq!(did_you_mean("backend_refs", fields), Some("backendRefs"));
        assert_eq!(did_you_mean("mathces", fields), Some("matches"));
        assert_eq!(did_you_mean("NAME", fields), Some("name"));
        assert_eq!(did_you_mean("colour", fields), None);
    }
}
