//! PURE. The word that was probably meant.

/// `message`, with the one of `known` that is a typing error or two away from `word`, if there is one.
pub(super) fn or_near(message: String, word: &str, known: &[&str]) -> String {
    let most = (word.chars().count() / 3).clamp(1, 3);
    let distance = |candidate: &str| strsim::damerau_levenshtein(word, candidate);
    let nearest = known.iter().map(|candidate| (distance(candidate), *candidate)).min();
    match nearest {
        Some((away, candidate)) if away <= most => format!("{message}; did you mean {candidate}?"),
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::or_near;

    #[test]
    fn the_nearest_word_is_named_if_any_is_near() {
        let known = ["install", "stages", "k3s", "k3s-agent"];
        for (word, expected) in [
            ("instal", "?; did you mean install?"),
            ("stagse", "?; did you mean stages?"),
            ("k3", "?; did you mean k3s?"),
            ("k3s_agent", "?; did you mean k3s-agent?"),
            ("packages", "?"),
            ("x", "?"),
        ] {
            assert_eq!(or_near("?".to_owned(), word, &known), expected, "{word}");
        }
    }
}
