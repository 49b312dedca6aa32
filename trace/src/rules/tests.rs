use super::{
    formula::{ccs, log_volume},
    *,
};

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn cubic(text: &str) -> Quantity {
    Quantity::of(decimal(text), crate::quantity::Measure::CUBIC_METRE).unwrap()
}

fn kilograms(amount: i64) -> Quantity {
    Quantity::grams(amount * 1000)
}

fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_yield_over_what_can_be_is_refused_with_the_figures() {
    let bounds = YieldBounds { min: Some(decimal("9")), max: Some(decimal("16")), never_over: decimal("18") };
    let check = |sugar| yield_within("sugar-kg", kilograms(sugar), kilograms(100_000), bounds);
    assert_eq!(check(12_000), Verdict::Good);
    assert!(matches!(check(16_010), Verdict::Warn(refusal) if refusal.rule == "high-yield"));
    assert!(matches!(check(8_900), Verdict::Warn(refusal) if refusal.rule == "low-yield"));
    let refusal = refused(check(18_010));
    assert_eq!((refusal.field.as_str(), refusal.rule), ("sugar-kg", "over-yield"));
    assert_eq!(refusal.args["percent"], "18.01");
    assert_eq!(refusal.args["input"], "100000 kg");
    assert_eq!(refused(yield_within("x", cubic("1"), kilograms(1), bounds)).rule, "not-computable");
}

#[test]
fn a_permit_holds_for_its_volume_place_and_time() {
    let day = |text: &str| text.parse().unwrap();
    let facts = PermitFacts {
        uri: "https://example.org/permit".to_owned(),
        place: Some("here".to_owned()),
        allowed: cubic("120"),
        used: cubic("100"),
        valid_from: day("2026-01-01"),
        valid_until: day("2026-12-31"),
    };
    let check =
        |volume: &str, place: &str, on: &str| permit("permit", "P1", &facts, cubic(volume), place, day(on));
    assert_eq!(check("20", "here", "2026-12-31"), Ok(()));
    let refusal = check("20.001", "here", "2026-06-01").unwrap_err();
    assert_eq!((refusal.rule, refusal.args["left"].as_str()), ("over-permit", "20 m³"));
    assert_eq!(check("1", "there", "2026-06-01").unwrap_err().rule, "permit-other-place");
    assert_eq!(check("1", "here", "2027-01-01").unwrap_err().rule, "permit-not-valid");
}

#[test]
fn nothing_is_given_away_that_does_not_lie_there() {
    assert_eq!(balance("load", "L", kilograms(10), kilograms(10)), Ok(()));
    let refusal = balance("load", "L", kilograms(10), Quantity::grams(10_001)).unwrap_err();
    assert_eq!((refusal.rule, refusal.args["on-hand"].as_str()), ("oversold", "10 kg"));
    assert_eq!(balance("load", "L", kilograms(10), cubic("1")).unwrap_err().rule, "other-unit");
}

#[test]
fn a_lot_is_not_used_before_it_is_or_after_its_recall() {
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let mut facts = LotFacts {
        product: "p".to_owned(),
        unit: Unit::Gram,
        on_hand: 1,
        made_at: at("2026-11-20T08:00:00Z"),
        recalled: false,
    };
    assert_eq!(usable("lot", "L", &facts, at("2026-11-20T08:00:00Z"), true), Ok(()));
    assert_eq!(
        usable("lot", "L", &facts, at("2026-11-20T07:59:59Z"), true).unwrap_err().rule,
        "before-it-was"
    );
    facts.recalled = true;
    assert_eq!(usable("lot", "L", &facts, at("2026-11-21T00:00:00Z"), true).unwrap_err().rule, "recalled");
    assert_eq!(usable("lot", "L", &facts, at("2026-11-21T00:00:00Z"), false), Ok(()));
}

#[test]
fn species_add_up_to_a_whole() {
    assert_eq!(sums_to("share", &[decimal("62.5"), decimal("37.5")], Decimal::HUNDRED), Ok(()));
    let refusal = sums_to("share", &[decimal("62.5"), decimal("37.4")], Decimal::HUNDRED).unwrap_err();
    assert_eq!((refusal.rule, refusal.args["sum"].as_str()), ("wrong-sum", "99.9"));
}

#[test]
fn mass_is_not_made() {
    assert_eq!(outputs_within("rice", &[kilograms(100)], &[kilograms(66), kilograms(34)]), Ok(()));
    assert_eq!(outputs_within("rice", &[kilograms(100)], &[Quantity::new(Unit::Piece, 500)]), Ok(()));
    let refusal = outputs_within("rice", &[kilograms(100)], &[kilograms(66), kilograms(35)]).unwrap_err();
    assert_eq!((refusal.rule, refusal.args["output"].as_str()), ("more-out-than-in", "101 kg"));
}

#[test]
fn drying_takes_only_water_away() {
    // 10,000 kg at 24 % hold 7,600 kg of dry matter: 8,786.13 kg at 13.5 %.
    let check = |output| {
        dry_matter("weight", kilograms(10_000), output, (decimal("24"), decimal("13.5")), Decimal::ZERO)
    };
    assert_eq!(check(Quantity::grams(8_786_127)), Ok(()));
    let refusal = check(Quantity::grams(8_786_128)).unwrap_err();
    assert_eq!((refusal.rule, refusal.args["max"].as_str()), ("more-than-dry-matter", "8786.127 kg"));
}

#[test]
fn a_difference_on_arrival_is_said_and_not_refused() {
    assert_eq!(deviation("net", kilograms(1000), kilograms(985), decimal("1.5")), Verdict::Good);
    let verdict = deviation("net", kilograms(1000), kilograms(984), decimal("1.5"));
    assert!(matches!(verdict, Verdict::Warn(refusal) if refusal.args["percent"] == "-1.60"));
}

#[test]
fn shares_add_up_to_the_whole() {
    assert_eq!(largest_remainder(100, &[1, 1, 1]), Some(vec![34, 33, 33]));
    assert_eq!(largest_remainder(7, &[0, 5]), Some(vec![0, 7]));
    assert_eq!(largest_remainder(i64::MAX, &[i64::MAX, i64::MAX]).unwrap().iter().sum::<i64>(), i64::MAX);
    assert_eq!(largest_remainder(1, &[0, 0]), None);
    assert_eq!(largest_remainder(1, &[]), None);
}

#[test]
fn log_volumes_follow_the_formula_to_the_printed_digit() {
    // Worked by hand from the formula of GB/T 4814 (see `log_volume`), in floating point for comparison.
    for (length, diameter, volume) in [
        ("4", "8", "0.031"),
        ("6", "12", "0.105"),
        ("2", "14", "0.036"),
        ("4", "20", "0.160"),
        ("6", "30", "0.549"),
    ] {
        assert_eq!(log_volume(decimal(length), decimal(diameter)).unwrap().to_string(), volume);
    }
    assert_eq!(log_volume(decimal("0.4"), decimal("20")), None);
    assert_eq!(log_volume(decimal("2.65"), decimal("20")), None);
    assert_eq!(log_volume(decimal("4"), decimal("121")), None);
}

#[test]
fn commercial_cane_sugar_is_exact() {
    assert_eq!(ccs(decimal("14.60"), decimal("16.88")).unwrap().to_string(), "13.46");
}
