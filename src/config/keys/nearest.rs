//! Suggests the nearest known name for a misspelled one.

/// The candidate that is so near to `written` that it was probably meant.
pub fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let spelled = |text: &str| text.to_lowercase().replace('-', "_");
    let written = spelled(written);
    let distance = |candidate: &'a str| {
        let distance = strsim::damerau_levenshtein(&written, &spelled(candidate));
        (distance, candidate)
    };
    let (distance, candidate) = candidates.into_iter().map(distance).min()?;
    // One slip for each three letters: two short words are always near.
    (distance <= written.chars().count().div_ceil(3).min(4)).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_seen_through_and_other_words_are_not() {
        let known = ["name", "data_dir", "client_listen", "peers"];
        for (written, meant) in [
            ("nmae", Some("name")),
            ("Name", Some("name")),
            ("client-listen", Some("client_listen")),
            ("peer", Some("peers")),
            ("datadir", Some("data_dir")),
            ("verbose", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }
}
