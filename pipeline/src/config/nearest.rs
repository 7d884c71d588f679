//! Guesses which valid name a mistyped one was meant to be.

/// The valid name that `found` was probably meant to be, if any is near enough to be worth saying.
///
/// Case and `-`/`_` don't count. Near enough: a third of the letters may differ; or all words of one are words of the other
/// (`poll_every` and `every`, `vancouver` and `America/Vancouver`).
pub fn nearest<'n>(found: &str, valid: impl IntoIterator<Item = &'n str>) -> Option<String> {
    /// Longer names than this are not typing mistakes, and comparing them costs the product of the lengths.
    const LONGEST: usize = 64;

    let found = plain(found);
    if found.is_empty() || found.len() > LONGEST {
        return None;
    }
    let allowed = (found.chars().count() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for name in valid {
        let candidate = plain(name);
        let edits = strsim::damerau_levenshtein(&found, &candidate);
        let distance = if edits <= allowed {
            edits
        } else if shares_words(&found, &candidate) {
            allowed + 1
        } else {
            continue;
        };
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name.to_owned())
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', ' '], "_")
}

fn shares_words(one: &str, other: &str) -> bool {
    /// Shorter words (`at`, `to`) are in too many names to mean anything.
    const SHORTEST: usize = 4;

    let within = |few: &str, many: &str| {
        let many: Vec<&str> = many.split(['_', '/']).collect();
        few.len() >= SHORTEST && few.split(['_', '/']).all(|word| many.contains(&word))
    };
    within(one, other) || within(other, one)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        let keys = ["every", "url", "api_key", "page_size"];
        let guess = |found: &str| nearest(found, keys);
        assert_eq!(guess("evry").as_deref(), Some("every"));
        assert_eq!(guess("ulr").as_deref(), Some("url"));
        assert_eq!(guess("ApiKey").as_deref(), Some("api_key"));
        assert_eq!(guess("page-size").as_deref(), Some("page_size"));
        assert_eq!(guess("poll_every").as_deref(), Some("every"));
        assert_eq!(guess("colour"), None);
        assert_eq!(guess(""), None);
        assert_eq!(guess(&"every".repeat(1000)), None);
    }

    #[test]
    fn a_city_is_enough_to_find_its_zone() {
        assert_eq!(nearest("vancouver", ["Europe/London", "America/Vancouver"]).as_deref(), Some("America/Vancouver"));
    }
}
