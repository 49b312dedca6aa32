//! The three profiles of the project, held against GS1's schema and their own translations.

mod forms;
mod schema;

use std::collections::BTreeSet;

use super::*;

pub(super) const TEXTS: [&str; 3] = [
    include_str!("../../../profiles/sugar.toml"),
    include_str!("../../../profiles/grain.toml"),
    include_str!("../../../profiles/timber.toml"),
];

pub(super) fn profiles() -> Vec<Profile> {
    TEXTS.iter().map(|text| Profile::parse(text).unwrap()).collect()
}

fn keys(locale: &str, file: &str) -> BTreeSet<String> {
    let path = format!("{}/../locales/{locale}/{file}.ftl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.to_owned()).collect()
}

#[test]
fn every_word_of_a_profile_is_translated() {
    for profile in profiles() {
        let mut wanted = BTreeSet::from([profile.id().to_owned()]);
        for step in profile.steps() {
            wanted.insert(profile.step_key(step));
            for field in &step.fields {
                wanted.insert(profile.field_key(step, field));
                wanted.extend(field.choices.iter().map(|choice| profile.choice_key(step, field, choice)));
                let table = profile.field_key(step, field);
                wanted.extend(field.columns.iter().map(|column| format!("{table}-{}", column.id)));
            }
        }
        wanted.extend(profile.products().iter().map(|product| profile.product_key(&product.id)));
        wanted.extend(profile.sections().iter().map(|section| profile.section_key(section)));
        wanted.extend(profile.metrics().iter().map(|metric| profile.metric_key(&metric.id)));
        wanted.extend(profile.thresholds().iter().map(|threshold| profile.threshold_key(&threshold.id)));
        wanted.extend(profile.silences().iter().map(|silence| profile.threshold_key(&silence.id)));
        wanted.extend(profile.rises().iter().map(|rise| profile.threshold_key(&rise.id)));
        let disagreements = profile.disagreements().iter();
        wanted.extend(disagreements.map(|disagreement| profile.threshold_key(&disagreement.id)));
        wanted.extend(profile.intervals().iter().map(|interval| profile.threshold_key(&interval.step)));
        let words = profile.roles().iter().chain(profile.place_kinds()).chain(profile.device_kinds());
        wanted.extend(words.map(|word| profile.word_key(word)));
        for locale in ["zh-CN", "en"] {
            let known = keys(locale, &format!("profile-{}", profile.id()));
            let missing: Vec<_> = wanted.difference(&known).collect();
            assert!(missing.is_empty(), "{locale}: {missing:?}");
            let unused: Vec<_> = known.difference(&wanted).collect();
            assert!(unused.is_empty(), "{locale}: {unused:?}");
        }
    }
}

#[test]
fn every_rule_has_its_message() {
    let sources = [
        include_str!("form.rs"),
        include_str!("build.rs"),
        include_str!("check.rs"),
        include_str!("../rules.rs"),
    ];
    let (zh, en) = (keys("zh-CN", "rules"), keys("en", "rules"));
    assert_eq!(zh, en);
    for key in &zh {
        let word = format!("\"{}\"", key.trim_start_matches("rule-"));
        assert!(sources.iter().any(|source| source.contains(&word)), "nothing says {key}");
    }
    for source in sources {
        for call in source.split("Refusal::new(").skip(1) {
            let arguments = call.split_once(')').map_or("", |(arguments, _)| arguments);
            if let Some(rule) = arguments.rsplit('"').nth(1).filter(|_| arguments.trim_end().ends_with('"')) {
                assert!(zh.contains(&format!("rule-{rule}")), "no message for {rule}");
            }
        }
    }
}

#[test]
fn a_reference_is_the_name_the_version_and_half_the_digest() {
    let profile = Profile::parse(TEXTS[0]).unwrap();
    let (name, digest) =
        profile.reference().split_once('#').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(name, "sugar/1");
    assert_eq!(digest.len(), 32);
    assert_ne!(Profile::parse(&format!("{}\n", TEXTS[0])).unwrap().reference(), profile.reference());
}

#[test]
fn a_profile_that_names_what_it_has_not_is_refused() {
    let broken = TEXTS[0].replacen("quantity = \"estimate\"", "quantity = \"guess\"", 1);
    assert!(matches!(Profile::parse(&broken), Err(ProfileError::Unknown { name, .. }) if name == "guess"));
    let broken = TEXTS[0].replacen("computed = \"ccs\"", "computed = \"magic\"", 1);
    assert!(matches!(Profile::parse(&broken), Err(ProfileError::Unknown { name, .. }) if name == "magic"));
    let broken = TEXTS[0].replacen("id = \"weigh\"", "id = \"harvest\"", 1);
    assert!(matches!(Profile::parse(&broken), Err(ProfileError::Twice(name)) if name == "harvest"));
}

#[test]
fn every_limit_says_where_it_stands() {
    for profile in profiles() {
        for field in profile.steps().iter().flat_map(|step| &step.fields) {
            assert!(field.limits.iter().all(|limit| limit.source.len() > 10), "{}", field.id);
        }
    }
}

#[test]
fn a_silence_names_a_known_kind_of_device_some_minutes_and_no_other_rule() {
    let grain = include_str!("../../../profiles/grain.toml");
    let with = |from: &str, to: &str| {
        assert!(grain.contains(from), "{from}");
        Profile::parse(&grain.replacen(from, to, 1))
    };
    assert!(matches!(with("minutes = 1560", "minutes = 0"), Err(ProfileError::NoTime(id)) if id == "silent"));
    let unknown = with("id = \"silent\", devices = [\"probe\"", "id = \"silent\", devices = [\"parrot\"");
    assert!(matches!(unknown, Err(ProfileError::Unknown { name, .. }) if name == "parrot"));
    let twice = with("id = \"silent\"", "id = \"hot-spot\"");
    assert!(matches!(twice, Err(ProfileError::Twice(id)) if id == "hot-spot"));
}

#[test]
fn a_rise_and_a_disagreement_clear_below_where_they_are_raised() {
    let grain = include_str!("../../../profiles/grain.toml");
    let with = |from: &str, to: &str| {
        assert!(grain.contains(from), "{from}");
        Profile::parse(&grain.replacen(from, to, 1))
    };
    let same = with("over = 1.0, clear = 0.5", "over = 1.0, clear = 1.0");
    assert!(matches!(same, Err(ProfileError::NoHysteresis(id)) if id == "point-rising"));
    let not_a_number = with("over = 8.0, clear = 5.0", "over = 8.0, clear = nan");
    assert!(matches!(not_a_number, Err(ProfileError::NoHysteresis(id)) if id == "point-apart"));
    assert!(matches!(with("hours = 24", "hours = 0"), Err(ProfileError::NoTime(id)) if id == "point-rising"));
    let twice = with("id = \"layer-rising\"", "id = \"inspect\"");
    assert!(matches!(twice, Err(ProfileError::Twice(id)) if id == "inspect"));
}

#[test]
fn an_interval_holds_from_its_day_until_its_last_and_names_steps_of_the_profile() {
    let grain = include_str!("../../../profiles/grain.toml");
    let profile = Profile::parse(grain).unwrap();
    let interval = profile.intervals().first().unwrap();
    let interval = watch::Interval { until: interval.from.succ_opt(), ..interval.clone() };
    assert!(!interval.is_in_force(interval.from.pred_opt().unwrap()));
    assert!(interval.is_in_force(interval.from) && interval.is_in_force(interval.until.unwrap()));
    assert!(!interval.is_in_force(interval.until.unwrap().succ_opt().unwrap()));
    let broken = grain.replacen("after = { step = \"fumigate\"", "after = { step = \"pray\"", 1);
    assert!(matches!(Profile::parse(&broken), Err(ProfileError::Unknown { name, .. }) if name == "pray"));
}
