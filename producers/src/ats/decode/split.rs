//! Cuts a body into the elements of its top-level array, by brackets and quotes alone. No I/O.
//!
//! Each element is judged on its own afterwards, so one that isn't JSON, or isn't UTF-8, costs one record and not the
//! page. A truncated body is found here: its array doesn't end.

/// Why a body isn't a list of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAList {
    /// Nothing but white space.
    #[error("the body is empty")]
    Empty,
    /// A tag comes first: some proxy's page for people.
    #[error("the body looks like HTML")]
    Html,
    /// The array, or a string in it, doesn't end.
    #[error("the body ends in the middle of the list")]
    Truncated,
    /// Some other JSON value, such as an object with a message.
    #[error("the body is JSON, but not a list")]
    OtherJson,
    /// Neither JSON nor HTML.
    #[error("the body isn't JSON")]
    NotJson,
}

/// One element, as it stands in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) raw: &'a [u8],
    /// Objects and arrays inside each other.
    pub(crate) depth: usize,
}

impl<'a> Element<'a> {
    /// A record that stands alone, such as that of a dead letter.
    pub(crate) fn alone(raw: &'a [u8]) -> Self {
        let raw = raw.trim_ascii();
        let (mut depth, mut deepest, mut at) = (0_usize, 0, 0);
        while let Some(byte) = raw.get(at) {
            match byte {
                // A string without end is for the parser to find.
                b'"' => at = end_of_string(raw, at).unwrap_or(raw.len()),
                b'{' | b'[' => {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
        }
        Self { raw, depth: deepest }
    }
}

/// The elements of the array that the body is, in order.
pub(crate) fn elements(body: &[u8]) -> Result<Vec<Element<'_>>, NotAList> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii();
    match body.first() {
        None => return Err(NotAList::Empty),
        Some(b'<') => return Err(NotAList::Html),
        Some(b'[') => {}
        Some(_) if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => return Err(NotAList::OtherJson),
        Some(b'{') => return Err(NotAList::Truncated),
        Some(_) => return Err(NotAList::NotJson),
    }
    let mut found = Vec::new();
    let mut scan = Scan { start: 1, depth: 0, deepest: 0 };
    let mut at = 1;
    while let Some(byte) = body.get(at) {
        match byte {
            b'"' => at = end_of_string(body, at).ok_or(NotAList::Truncated)?,
            b'{' | b'[' => {
                scan.depth += 1;
                scan.deepest = scan.deepest.max(scan.depth);
            }
            b']' if scan.depth == 0 => {
                let last = body.get(scan.start..at).unwrap_or_default().trim_ascii();
                // `[]` has no element; anything else does, even if it is only a comma too many.
                if !(last.is_empty() && found.is_empty()) {
                    found.push(Element { raw: last, depth: scan.deepest });
                }
                let is_all = at + 1 == body.len();
                return if is_all { Ok(found) } else { Err(NotAList::NotJson) };
            }
            b'}' | b']' => scan.depth = scan.depth.saturating_sub(1),
            b',' if scan.depth == 0 => {
                let raw = body.get(scan.start..at).unwrap_or_default().trim_ascii();
                found.push(Element { raw, depth: scan.deepest });
                scan = Scan { start: at + 1, depth: 0, deepest: 0 };
            }
            _ => {}
        }
        at += 1;
    }
    Err(NotAList::Truncated)
}

struct Scan {
    start: usize,
    depth: usize,
    deepest: usize,
}

/// Where the string that begins at `at` has its closing quote.
fn end_of_string(body: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match body.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn texts(body: &str) -> Result<Vec<String>, NotAList> {
        let text = |element: &Element<'_>| String::from_utf8(element.raw.to_vec()).unwrap();
        elements(body.as_bytes()).map(|found| found.iter().map(text).collect())
    }

    #[test]
    fn brackets_and_commas_in_strings_are_text() {
        assert_eq!(texts(r#" [ {"a":"],}\""} , [1,2] ,3 ] "#).unwrap(), [r#"{"a":"],}\""}"#, "[1,2]", "3"]);
        assert_eq!(texts("[]").unwrap(), [""; 0]);
        assert_eq!(texts("\u{feff}[ ]").unwrap(), [""; 0]);
    }

    #[test]
    fn an_element_that_is_not_json_is_still_one_element() {
        assert_eq!(texts(r#"[{"a":NaN},{"b":1},]"#).unwrap(), [r#"{"a":NaN}"#, r#"{"b":1}"#, ""]);
        assert_eq!(elements(b"[\"\xff\"]").unwrap().len(), 1);
    }

    #[test]
    fn what_is_not_a_list_is_told_apart() {
        assert_eq!(texts(""), Err(NotAList::Empty));
        assert_eq!(texts("<!doctype html>"), Err(NotAList::Html));
        assert_eq!(texts(r#"[{"a":"#), Err(NotAList::Truncated));
        assert_eq!(texts(r#"[{"a":"b"#), Err(NotAList::Truncated));
        assert_eq!(texts(r#"[{"a":1}"#), Err(NotAList::Truncated));
        assert_eq!(texts(r#"{"message":"no"}"#), Err(NotAList::OtherJson));
        assert_eq!(texts("null"), Err(NotAList::OtherJson));
        assert_eq!(texts(r#"{"message":"#), Err(NotAList::Truncated));
        assert_eq!(texts("Service starting"), Err(NotAList::NotJson));
        assert_eq!(texts("[] and more"), Err(NotAList::NotJson));
    }

    #[test]
    fn depth_is_measured_per_element() {
        let found = elements(br#"[{"a":[[1]]},{}]"#).unwrap();
        assert_eq!([found[0].depth, found[1].depth], [3, 1]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = elements(&body);
        }

        #[test]
        fn alone_or_in_a_list_an_element_is_the_same(row in "[a\"\\\\\\[\\]{},:]{0,24}") {
            if let Ok([element]) = elements(format!("[{row}]").as_bytes()).as_deref() {
                prop_assert_eq!(*element, Element::alone(row.as_bytes()));
            }
        }

        #[test]
        fn valid_json_is_cut_where_a_parser_cuts_it(rows in prop::collection::vec("[\\PC\"\\\\\\[\\]{},]{0,12}", 0..8)) {
            let body = serde_json::to_string(&rows).unwrap();
            let cut: Vec<String> = elements(body.as_bytes()).unwrap().iter()
                .map(|element| serde_json::from_slice(element.raw).unwrap()).collect();
            prop_assert_eq!(cut, rows);
        }
    }
}
