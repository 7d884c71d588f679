//! JSON as it comes, taken without judging types: a wrong type in one field must not hide where it is. No I/O.
//!
//! Text is borrowed from the body. Types are judged in [`super::field`], which knows the field's name.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longer lists are a fault of the source: the longest in the sample has 15 items.
const MAX_ITEMS: usize = 1_000;

/// What stands where a single value is expected.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Scalar<'a> {
    /// The field isn't there.
    #[default]
    Missing,
    Null,
    Text(Cow<'a, str>),
    Whole(i128),
    Bool(bool),
    /// Something no field takes: a fraction, a list, an object.
    Other,
}

/// One item of a list.
#[derive(Debug)]
pub(super) enum Item<'a, T> {
    Object(T),
    Scalar(Scalar<'a>),
}

/// What stands where a list is expected.
#[derive(Debug, Default)]
pub(super) enum List<'a, T> {
    /// The field isn't there.
    #[default]
    Missing,
    Null,
    Items(Vec<Item<'a, T>>),
    TooMany,
    /// No list, but what could be its one item.
    One(Item<'a, T>),
}

/// For lists whose items are no objects.
#[derive(Debug, Deserialize)]
pub(super) struct NoObject {}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Item<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor(PhantomData))
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for List<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

struct ScalarVisitor;
struct ItemVisitor<T>(PhantomData<T>);
struct ListVisitor<T>(PhantomData<T>);

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Whole(value.into()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// The visits of single values, handed on to [`ScalarVisitor`] and wrapped.
macro_rules! scalars {
    ($wrap:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }

        fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
            ScalarVisitor.visit_bool(value).map($wrap)
        }

        fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
            ScalarVisitor.visit_i64(value).map($wrap)
        }

        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
            ScalarVisitor.visit_u64(value).map($wrap)
        }

        fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
            ScalarVisitor.visit_f64(value).map($wrap)
        }

        fn visit_borrowed_str<E: serde::de::Error>(self, value: &'de str) -> Result<Self::Value, E> {
            ScalarVisitor.visit_borrowed_str(value).map($wrap)
        }

        fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
            ScalarVisitor.visit_str(value).map($wrap)
        }
    };
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ItemVisitor<T> {
    type Value = Item<'de, T>;

    scalars!(Item::Scalar);

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Item::Scalar(Scalar::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        ScalarVisitor.visit_seq(items).map(Item::Scalar)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Item::Object)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = List<'de, T>;

    scalars!(|scalar| List::One(Item::Scalar(scalar)));

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(List::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() < MAX_ITEMS {
            match items.next_element()? {
                Some(item) => list.push(item),
                None => return Ok(List::Items(list)),
            }
        }
        let mut is_longer = false;
        while items.next_element::<IgnoredAny>()?.is_some() {
            is_longer = true;
        }
        Ok(if is_longer { List::TooMany } else { List::Items(list) })
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
        ItemVisitor(PhantomData).visit_map(fields).map(List::One)
    }
}
