//! Finds a field inside a JSON column, without building what isn't asked for. No I/O.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pipeline::config::Scalar;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::config::Derived;

/// The JSON that stands at the derived field's place, as it is written there. `None`: nothing does, or null. Fails when
/// the text isn't JSON.
pub fn find<'j>(json: &'j str, derived: &Derived) -> Result<Option<&'j str>, ()> {
    let mut here: &RawValue = serde_json::from_str(json).map_err(|_| ())?;
    for name in &derived.path {
        // What isn't an object has nothing inside.
        let Ok(mut object) = serde_json::from_str::<BTreeMap<Cow<'j, str>, &RawValue>>(here.get()) else {
            return Ok(None);
        };
        match object.remove(name.as_str()) {
            Some(inner) => here = inner,
            None => return Ok(None),
        }
    }
    if derived.conditions.is_empty() {
        return Ok(Some(here.get()).filter(|text| *text != "null"));
    }
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(here.get()) else { return Ok(None) };
    Ok(elements.into_iter().map(RawValue::get).find(|element| meets(element, &derived.conditions)))
}

fn meets(element: &str, conditions: &BTreeMap<String, Scalar>) -> bool {
    let Ok(object) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(element) else { return false };
    conditions.iter().all(|(name, wanted)| object.get(name.as_str()).is_some_and(|found| equals(found, wanted)))
}

fn equals(found: &RawValue, wanted: &Scalar) -> bool {
    match wanted {
        Scalar::Bool(wanted) => found.get() == if *wanted { "true" } else { "false" },
        Scalar::Integer(wanted) => serde_json::from_str::<i64>(found.get()).is_ok_and(|found| found == *wanted),
        Scalar::Number(wanted) => serde_json::from_str::<f64>(found.get()).is_ok_and(|found| found == *wanted),
        Scalar::Text(wanted) => <Cow<'_, str>>::deserialize(found).is_ok_and(|found| found == *wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn official() -> Derived {
        Derived {
            name: "speciality".into(),
            from: "additional_info".into(),
            path: vec!["specialities".into()],
            conditions: [("speciality_officio".to_owned(), Scalar::Bool(true))].into(),
        }
    }

    #[test]
    fn the_official_speciality_is_found() {
        let info = r#"{"educations": [], "specialities": [{"level": "BASIC", "speciality_officio": false},
            {"speciality_officio": true, "speciality": "THERAPIST"}]}"#;
        assert_eq!(find(info, &official()), Ok(Some(r#"{"speciality_officio": true, "speciality": "THERAPIST"}"#)));
    }

    #[test]
    fn what_is_not_there_is_nothing_and_what_is_no_json_a_fault() {
        for nothing in [
            "{}",
            "null",
            "[]",
            "7",
            r#"{"specialities": {}}"#,
            r#"{"specialities": [1, {"speciality_officio": "true"}]}"#,
        ] {
            assert_eq!(find(nothing, &official()), Ok(None), "{nothing}");
        }
        assert_eq!(find("{", &official()), Err(()));
    }

    #[test]
    fn without_a_condition_it_is_what_stands_at_the_path() {
        let plain = Derived { path: vec!["a".into(), "b".into()], conditions: BTreeMap::new(), ..official() };
        assert_eq!(find(r#"{"a": {"b": [1, 2]}}"#, &plain), Ok(Some("[1, 2]")));
        assert_eq!(find(r#"{"a": {"b": null}}"#, &plain), Ok(None));
        let ward = Derived {
            path: Vec::new(),
            conditions: [("ward".to_owned(), Scalar::Text("A\"1".into()))].into(),
            ..official()
        };
        assert_eq!(find(r#"[{"ward": "A\"1", "n": 1}]"#, &ward), Ok(Some(r#"{"ward": "A\"1", "n": 1}"#)));
    }
}
