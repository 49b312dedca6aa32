//! Whether the column `public` is what the signed bytes say in plain: RFC 9901 §7.1 without any disclosure. The column's JSON is
//! held against the payload while it is read, so that nothing is made of it.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer as _, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Notes the digests of what is concealed on the way.
pub(super) fn says_the_same<'a>(signed: &'a Value, public: &str, digests: &mut Vec<&'a str>) -> bool {
    note_digests(signed, digests);
    let mut json = serde_json::Deserializer::from_str(public);
    let same = json.deserialize_any(Plain { signed, top: true });
    same.is_ok() && json.end().is_ok()
}

fn note_digests<'a>(signed: &'a Value, digests: &mut Vec<&'a str>) {
    match signed {
        Value::Object(members) => {
            for (name, member) in members {
                if name == "_sd" {
                    digests.extend(member.as_array().into_iter().flatten().filter_map(Value::as_str));
                } else {
                    note_digests(member, digests);
                }
            }
        }
        Value::Array(elements) => {
            for element in elements {
                match element.get("...").and_then(Value::as_str) {
                    Some(digest) => digests.push(digest),
                    None => note_digests(element, digests),
                }
            }
        }
        _ => {}
    }
}

/// Reads JSON that must say what `signed` says in plain; anything else is an error.
struct Plain<'a> {
    signed: &'a Value,
    top: bool,
}

fn fits<E: Error>(fits: bool) -> Result<(), E> {
    if fits { Ok(()) } else { Err(E::custom("something else was signed")) }
}

impl Plain<'_> {
    /// Postgres keeps 1e3 as 1000: one number, two spellings.
    fn number<E: Error>(&self, number: Option<f64>) -> Result<(), E> {
        fits(self.signed.is_number() && self.signed.as_f64() == number)
    }
}

impl<'de> DeserializeSeed<'de> for Plain<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what was signed")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        fits(self.signed.is_null())
    }

    fn visit_bool<E: Error>(self, bool: bool) -> Result<(), E> {
        fits(self.signed.as_bool() == Some(bool))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.number(serde_json::Number::from(number).as_f64())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.number(serde_json::Number::from(number).as_f64())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.number(Some(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        fits(self.signed.as_str() == Some(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut public: A) -> Result<(), A::Error> {
        let Some(members) = self.signed.as_object() else { return fits(false) };
        let concealed = |name: &str| name == "_sd" || (self.top && name == "_sd_alg");
        let mut left = members.keys().filter(|name| !concealed(name)).count();
        while let Some(name) = public.next_key::<Cow<'de, str>>()? {
            let Some(signed) = members.get(name.as_ref()).filter(|_| !concealed(&name) && left > 0) else {
                return fits(false);
            };
            public.next_value_seed(Plain { signed, top: false })?;
            left -= 1;
        }
        fits(left == 0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut public: A) -> Result<(), A::Error> {
        let Some(elements) = self.signed.as_array() else { return fits(false) };
        let is_plain = |element: &&Value| element.get("...").and_then(Value::as_str).is_none();
        for signed in elements.iter().filter(is_plain) {
            let read = public.next_element_seed(Plain { signed, top: false })?;
            fits(read.is_some())?;
        }
        fits(public.next_element::<IgnoredAny>()?.is_none())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_signed_in_plain_says_the_same() {
        let signed = json!({"_sd_alg": "sha-256", "_sd": ["top"], "n": 1000.0, "t": true, "z": null,
            "a": {"_sd": ["inner"], "b": [1, {"...": "third"}, "x"]}});
        let mut digests = Vec::new();
        let public = r#"{"a": {"b": [1, "x"]}, "n": 1e3, "t": true, "z": null}"#;
        assert!(says_the_same(&signed, public, &mut digests));
        digests.sort_unstable();
        assert_eq!(digests, ["inner", "third", "top"]);
        for other in [
            r#"{"a": {"b": [1, "x"]}, "n": 1001, "t": true, "z": null}"#,
            r#"{"a": {"b": [1, "y"]}, "n": 1000, "t": true, "z": null}"#,
            r#"{"a": {"b": [1]}, "n": 1000, "t": true, "z": null}"#,
            r#"{"a": {"b": [1, "x", 2]}, "n": 1000, "t": true, "z": null}"#,
            r#"{"a": {"b": [1, "x"]}, "n": 1000, "t": true}"#,
            r#"{"a": {"b": [1, "x"]}, "n": 1000, "t": true, "z": null, "more": 1}"#,
            r#"{"a": {"b": [1, "x"]}, "n": 1000, "t": 1, "z": null}"#,
            r#"{"a": [], "n": 1000, "t": true, "z": null}"#,
            r#"{"a": {"b": [1, "x"]}, "n": "1000", "t": true, "z": null}"#,
            r#"{"a": {"b": [1, "x"]}, "n": 1000, "t": true, "z": null} {}"#,
            r#"{"a": {"_sd": ["inner"], "b": [1, "x"]}, "n": 1000, "t": true, "z": null}"#,
            "not JSON",
        ] {
            assert!(!says_the_same(&signed, other, &mut Vec::new()), "{other}");
        }
    }
}
