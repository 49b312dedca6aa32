//! A small ledger in one or two logs; then every way to spoil its bundle.

mod chain;
mod keys;
mod ledger;
mod script;
mod seen;
mod spoilt;

use super::*;
use ledger::Ledger;

/// The reasons that a layer gives for being bad.
fn bad(report: &Report, layer: Layer) -> String {
    reasons(report, layer, |outcome| match outcome {
        Outcome::Bad(why) => Some(why),
        _ => None,
    })
}

/// The reasons that a layer gives for not having been checked.
fn unchecked(report: &Report, layer: Layer) -> String {
    reasons(report, layer, |outcome| match outcome {
        Outcome::Unchecked(why) => Some(why),
        _ => None,
    })
}

fn reasons(report: &Report, layer: Layer, of: impl Fn(&Outcome) -> Option<&Vec<String>>) -> String {
    let found = report.layers.iter().find(|checked| checked.layer == layer).and_then(|it| of(&it.outcome));
    found.unwrap_or_else(|| panic!("{:?}", report.layers)).join("\n")
}

#[test]
fn a_whole_bundle_is_valid_and_shows_what_it_discloses() {
    let ledger = Ledger::small();
    let bundle = ledger.bundle();
    assert_eq!(bundle.to_string().parse::<Bundle>(), Ok(bundle));
    let report = ledger.check();
    assert_eq!(report.verdict, Verdict::Valid, "{:?}", report.layers);
    let harvest = report.statements[1].as_ref().unwrap();
    let Content::Record(claims) = &harvest.content else { panic!("a record") };
    assert_eq!(claims["event"]["gx:plot"]["name"], "那良屯三号地");
    assert_eq!(harvest.place, Some((ledger::ORIGIN.to_owned(), 1)));
    assert_eq!(harvest.custody, Some(crate::keys::Custody::Platform));
}

#[test]
fn what_is_missing_is_not_called_valid() {
    let ledger = Ledger::small();
    let (whole, trust) = (ledger.bundle(), ledger.trust());
    let verdict = |bundle: &Bundle| verify(bundle, &trust).verdict;

    let mut without_cosignature = whole.clone();
    without_cosignature.checkpoints[0].signatures.pop();
    assert_eq!(verdict(&without_cosignature), Verdict::CouldNotCheck);

    let mut without_roster = whole.clone();
    without_roster.items[1].roster = None;
    assert_eq!(verdict(&without_roster), Verdict::CouldNotCheck);

    let mut without_enrolment = whole.clone();
    without_enrolment.items.remove(0);
    without_enrolment.items[0].roster.as_mut().unwrap().0 = 1;
    assert_eq!(verdict(&without_enrolment), Verdict::CouldNotCheck);

    let mut without_disclosures = whole.clone();
    if let Signed::Record { disclosures, .. } = &mut without_disclosures.items[1].signed {
        disclosures.clear();
    }
    assert_eq!(verdict(&without_disclosures), Verdict::Valid, "an erased field breaks no proof");
    assert_eq!(verdict(&Bundle::default()), Verdict::CouldNotCheck);
}
