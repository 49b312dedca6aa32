//! Every error of a form names its field and its rule.

use crate::profile::{Profile, Refusal, Step, form, form::Values};

fn parse(step: &str, pairs: &[(&str, &str)]) -> Result<Values, Vec<Refusal>> {
    let profile = super::profiles().into_iter().find(|profile| profile.step(step).is_some()).unwrap();
    let step: &Step = profile.step(step).unwrap();
    let profile: &Profile = &profile;
    form::parse(
        profile,
        step,
        &pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>(),
    )
}

const LAB: &[(&str, &str)] = &[
    ("lot", "https://id.gs1.org/01/09521234000013/10/T1"),
    ("place", "https://id.gs1.org/414/9521234000006"),
    ("brix", "20.1"),
    ("pol", "17.8"),
    ("fibre", "13"),
];

fn lab(field: &str, text: &str) -> Vec<(String, &'static str)> {
    let mut pairs: Vec<(&str, &str)> = LAB.iter().filter(|(name, _)| *name != field).copied().collect();
    pairs.push((field, text));
    let refusals = parse("lab", &pairs).unwrap_err();
    refusals.into_iter().map(|refusal| (refusal.field, refusal.rule)).collect()
}

#[test]
fn a_wrong_field_is_named_with_its_rule() {
    let one = |field: &str, rule| vec![(field.to_owned(), rule)];
    assert_eq!(lab("brix", ""), one("brix", "required"));
    assert_eq!(lab("brix", "twenty"), one("brix", "not-a-number"));
    assert_eq!(lab("brix", "31"), one("brix", "above"));
    assert_eq!(lab("fibre", "4.9"), one("fibre", "below"));
    assert_eq!(lab("lot", "T1"), one("lot", "not-an-identifier"));
    assert_eq!(lab("lot", "https://evil.example/01/09521234000013/10/T1"), one("lot", "not-an-identifier"));
    assert_eq!(lab("ccs", "12"), one("ccs", "unknown-field"));
    assert_eq!(lab("colour", "red"), one("colour", "unknown-field"));
    assert_eq!(lab("at", "yesterday"), one("at", "not-a-time"));
    assert_eq!(lab("fibre@device", "https://id.gs1.org/8004/95212341"), one("fibre", "unknown-field"));
}

#[test]
fn all_wrong_fields_are_named_at_once() {
    let refusals = parse("lab", &[("brix", "x"), ("pol", "99")]).unwrap_err();
    let named: Vec<_> = refusals.iter().map(|refusal| (refusal.field.as_str(), refusal.rule)).collect();
    let expected = [
        ("brix", "not-a-number"),
        ("pol", "above"),
        ("lot", "required"),
        ("place", "required"),
        ("fibre", "required"),
    ];
    assert_eq!(named, expected);
}

#[test]
fn computed_fields_follow_from_what_was_typed() {
    let values = parse("lab", LAB).unwrap();
    // 17.8 × 82/100 = 14.596; 20.1 × 84/100 = 16.884; 1.5 × 14.60 − 0.5 × 16.88 = 13.46.
    assert_eq!(values.number("pol-cane").unwrap().to_string(), "14.60");
    assert_eq!(values.number("brix-cane").unwrap().to_string(), "16.88");
    assert_eq!(values.number("ccs").unwrap().to_string(), "13.46");
    assert_eq!(values.number("purity").unwrap().to_string(), "88.56");
}

#[test]
fn a_tally_list_names_the_line_that_is_wrong() {
    let tally = |text: &str| {
        let refusals = parse("fell", &[("tally", text)]).unwrap_err();
        refusals.into_iter().find(|refusal| refusal.field == "tally")
    };
    let line =
        |refusal: Option<Refusal>| refusal.map(|refusal| (refusal.rule, refusal.args.get("line").cloned()));
    assert_eq!(tally("A1 4.0 20\nA2, 2.6, 14"), None);
    assert_eq!(line(tally("A1 4.0 20\nA2 2.6")), Some(("wrong-columns", Some("2".to_owned()))));
    assert_eq!(line(tally("A1 21 20")), Some(("above", Some("1".to_owned()))));
    assert_eq!(line(tally("A1 4 20\nA1 4 20")), Some(("twice", None)));
}

#[test]
fn a_time_from_a_browser_gets_its_offset_and_a_full_one_keeps_its_own() {
    let profile = super::profiles().into_iter().find(|profile| profile.step("lab").is_some()).unwrap();
    let at = |text: &str| {
        let typed = [("jti".to_owned(), "x".to_owned()), (form::AT.to_owned(), text.to_owned())];
        form::from_browser(profile.step("lab").unwrap(), &typed)
    };
    assert_eq!(at("2026-11-20T08:30"), [("at".to_owned(), "2026-11-20T08:30:00+08:00".to_owned())]);
    assert_eq!(at("2026-11-20T08:30:00Z"), [("at".to_owned(), "2026-11-20T08:30:00Z".to_owned())]);
}

#[test]
fn a_lot_stands_in_a_form_once_and_in_a_positive_amount() {
    let rule = |pairs: &[(&str, &str)]| {
        let refusals = parse("crush", pairs).unwrap_err();
        refusals.into_iter().find(|refusal| refusal.field == "cane").map(|refusal| refusal.rule)
    };
    let lot = "cane:https://id.gs1.org/01/09521234000013/10/T1";
    assert_eq!(rule(&[(lot, "100")]), None);
    assert_eq!(rule(&[(lot, "100"), (lot, "1")]), Some("twice"));
    assert_eq!(rule(&[(lot, "0")]), Some("not-positive"));
    assert_eq!(rule(&[("cane:T1", "5")]), Some("not-an-identifier"));
    assert_eq!(rule(&[]), Some("required"));
}
