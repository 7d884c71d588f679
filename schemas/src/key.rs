//! The key of an entity, as topics carry it: UTF-8 text, its parts joined by `|`.

use std::{borrow::Borrow, fmt, sync::Arc};

/// An entity's key. Cheap to clone. Ordered and hashed as its text, so `&str` looks it up.
///
/// A `\` stands before each `\` and `|` that belongs to a part; an empty part is null (an empty text can't be told
/// from it).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Joins the parts.
    pub fn of(parts: &[Option<&str>]) -> Key {
        let mut text = String::with_capacity(parts.iter().map(|part| part.map_or(0, str::len) + 1).sum());
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                text.push('|');
            }
            for c in part.unwrap_or_default().chars() {
                if matches!(c, '|' | '\\') {
                    text.push('\\');
                }
                text.push(c);
            }
        }
        Key(text.into())
    }

    /// The parts, without escapes. At least one.
    pub fn parts(&self) -> Vec<Option<String>> {
        let mut parts = vec![None];
        let mut chars = self.0.chars();
        while let Some(c) = chars.next() {
            let c = match c {
                '|' => {
                    parts.push(None);
                    continue;
                }
                // A lone escape at the end, which `of` never writes, stands for itself.
                '\\' => chars.next().unwrap_or('\\'),
                c => c,
            };
            if let Some(part) = parts.last_mut() {
                part.get_or_insert_with(String::new).push(c);
            }
        }
        parts
    }

    /// The text of the first `n` parts: a partition key, or the prefix of a group. The whole text when there are fewer.
    pub fn prefix(&self, n: usize) -> &str {
        if n == 0 {
            return "";
        }
        let mut separators = 0;
        let mut escaped = false;
        for (at, byte) in self.0.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'|' => {
                    separators += 1;
                    if separators == n {
                        return &self.0[..at];
                    }
                }
                _ => {}
            }
        }
        &self.0
    }

    /// Whether `group` is this key or its first parts: `a|b` and `a` belong to `a`, `ab` doesn't.
    pub fn is_under(&self, group: &str) -> bool {
        self.0.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
    }

    /// The text, as in a message's key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A message's key; fails when it isn't UTF-8.
    pub fn from_bytes(bytes: &[u8]) -> Result<Key, std::str::Utf8Error> {
        std::str::from_utf8(bytes).map(Key::from)
    }
}

impl From<&str> for Key {
    /// Takes the text of a whole key, escapes included.
    fn from(text: &str) -> Key {
        Key(text.into())
    }
}

impl From<String> for Key {
    /// Takes the text of a whole key, escapes included.
    fn from(text: String) -> Key {
        Key(text.into())
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        String::deserialize(deserializer).map(Key::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_joined_and_escaped() {
        let key = Key::of(&[Some("nurse|1"), None, Some(r"C:\x")]);
        assert_eq!(key.as_str(), r"nurse\|1||C:\\x");
        assert_eq!(key.parts(), [Some("nurse|1".to_owned()), None, Some(r"C:\x".to_owned())]);
    }

    #[test]
    fn a_prefix_ends_at_a_separator_not_at_an_escaped_one() {
        let key = Key::of(&[Some("a|b"), Some("c"), Some("d")]);
        assert_eq!(key.prefix(1), r"a\|b");
        assert_eq!(key.prefix(2), r"a\|b|c");
        assert_eq!(key.prefix(9), key.as_str());
        assert_eq!(key.prefix(0), "");
    }

    #[test]
    fn a_group_holds_its_own_keys_only() {
        assert!(Key::from("anna|1").is_under("anna"));
        assert!(Key::from("anna").is_under("anna"));
        assert!(!Key::from("annabel|1").is_under("anna"));
    }

    proptest! {
        #[test]
        fn parts_come_back(parts in prop::collection::vec(r"[a-c|\\é]{0,6}", 1..5)) {
            let given: Vec<Option<&str>> = parts.iter().map(|p| (!p.is_empty()).then_some(p.as_str())).collect();
            let key = Key::of(&given);
            let expected: Vec<Option<String>> = given.iter().map(|p| p.map(str::to_owned)).collect();
            prop_assert_eq!(key.parts(), expected);
            for n in 1..=given.len() {
                let prefix = Key::of(&given[..n]);
                prop_assert_eq!(key.prefix(n), prefix.as_str());
            }
        }
    }
}
