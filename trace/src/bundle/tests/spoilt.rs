//! Bundles that somebody damaged, by accident or with care: never a panic, never valid.

use proptest::prelude::*;

use super::{
    super::*,
    ledger::{DEVICE, Ledger, MILL, NEXT, ORIGIN, secret, signer},
};
use crate::{
    hash::sha256,
    keys::KeyRole,
    record::statement::{NewLog, Statement},
    roster::KeyState,
    tlog::policy::Policy,
};

/// Every kind of line: two logs, a seen head, a harvest with disclosures, a pack, rosters and an anchor.
pub fn full() -> (String, Policy) {
    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    ledger.enrol(0, &secret(5), KeyRole::Pack, MILL, Some(DEVICE));
    let seen = ledger.carry_seen(0, 2);
    let harvest = ledger.harvest(0, Some(seen));
    let next = ledger.open_log(NEXT, 6);
    let vkey = signer(NEXT, 6).verifier().to_string();
    ledger.state_as_registrar(0, Statement::NewLog(NewLog { origin: NEXT.to_owned(), vkey, closed: None }));
    let pack = ledger.pack(next, &secret(5), DEVICE, 1_795_000_000);
    let roster = ledger.roster(next, KeyState::Good);
    ledger.confirm(harvest, roster);
    ledger.confirm(pack, roster);
    ledger.carry_anchor(next);
    (ledger.bundle().to_string(), ledger.trust())
}

pub fn reseal(text: &str) -> String {
    let body = &text[..text.rfind("sha256 ").unwrap()];
    format!("{body}sha256 {}\n", sha256(body.as_bytes()))
}

fn passes(text: &str, trust: &Policy) -> bool {
    text.parse::<Bundle>().is_ok_and(|bundle| verify(&bundle, trust).verdict == Verdict::Valid)
}

/// What only the chain can tell: which chain, and the transaction.
fn is_chain_s_own(text: &str, at: usize) -> bool {
    let line = text.rfind("anchor ").unwrap();
    let transaction = text[line..].find(" 0xcd").unwrap() + line;
    at >= transaction || (line..line + "anchor 31337".len()).contains(&at)
}

#[test]
fn no_bit_of_a_bundle_can_be_flipped_unnoticed_even_by_who_mends_its_last_line() {
    let (text, trust) = full();
    assert!(passes(&text, &trust), "{:?}", verify(&text.parse().unwrap(), &trust).layers);
    let last_line = text.rfind("sha256 ").unwrap();
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(flipped) = String::from_utf8(bytes) else { continue };
            if bit == at % 8 {
                assert!(!passes(&flipped, &trust), "byte {at}, bit {bit}");
            } else {
                assert!(flipped.parse::<Bundle>().is_err(), "byte {at}, bit {bit}");
            }
            // Mending costs a parse and all signatures: one bit of each byte is enough.
            if at < last_line && bit == at % 8 && !is_chain_s_own(&text, at) {
                assert!(!passes(&reseal(&flipped), &trust), "byte {at}, bit {bit}, mended");
            }
        }
    }
}

#[test]
fn nothing_stands_twice_or_in_another_order() {
    let (text, trust) = full();
    let lines: Vec<&str> = text.lines().collect();
    let starts: Vec<usize> = (1..lines.len())
        .filter(|&at| {
            let word = lines[at].split(' ').next().unwrap();
            matches!(word, "checkpoint" | "seen" | "record" | "pack" | "anchor" | "sha256")
        })
        .collect();
    let blocks: Vec<String> =
        starts.windows(2).map(|pair| lines[pair[0]..pair[1]].join("\n") + "\n").collect();
    let whole = |blocks: &[String]| reseal(&format!("{}\n{}sha256 \n", lines[0], blocks.concat()));
    assert_eq!(whole(&blocks), text);
    for at in 0..blocks.len() {
        let mut twice = blocks.clone();
        twice.insert(at, blocks[at].clone());
        assert!(whole(&twice).parse::<Bundle>().is_err(), "{} twice", blocks[at]);
        let mut without = blocks.clone();
        without.remove(at);
        let is_extra = blocks[at].starts_with("anchor");
        assert!(is_extra || !passes(&whole(&without), &trust), "without {}", blocks[at]);
        for other in 0..at {
            let mut swapped = blocks.clone();
            swapped.swap(at, other);
            assert!(whole(&swapped).parse::<Bundle>().is_err(), "{at} and {other} swapped");
        }
    }
}

#[test]
fn two_disclosures_or_signature_lines_have_one_order() {
    let (text, _) = full();
    let lines: Vec<&str> = text.lines().collect();
    let pairs = (1..lines.len()).filter(|&at| {
        let word = lines[at].split(' ').next().unwrap();
        matches!(word, "disclosure" | "—") && lines[at - 1].starts_with(word)
    });
    let mut count = 0;
    for at in pairs {
        let mut swapped = lines.clone();
        swapped.swap(at - 1, at);
        assert!(reseal(&(swapped.join("\n") + "\n")).parse::<Bundle>().is_err());
        count += 1;
    }
    assert_eq!(count, 4, "one pair of disclosures, three notes");
}

#[test]
fn a_cut_or_an_oversized_bundle_is_none() {
    let (text, trust) = full();
    for at in (0..text.len()).filter(|&at| text.is_char_boundary(at)) {
        assert!(text[..at].parse::<Bundle>().is_err());
        if text[..at].ends_with('\n') {
            let cut = format!("{}sha256 {}\n", &text[..at], sha256(&text.as_bytes()[..at]));
            let is_without_anchor = text[at..].starts_with("anchor ") || text[at..].starts_with("sha256 ");
            assert!(is_without_anchor || !passes(&cut, &trust), "cut at {at}");
        }
    }
    assert_eq!(" ".repeat(BUNDLE_BYTES_MAX + 1).parse::<Bundle>(), Err(BundleError::TooLong));
    let anchor = format!("anchor 1 0x{} {ORIGIN} 1 {} 0x", "a".repeat(40), sha256(b"root"));
    let anchors: Vec<String> = (0..=ANCHORS_MAX).map(|number| format!("{anchor}{number:064x}\n")).collect();
    let many = reseal(&format!("suyuan-bundle v1\n{}sha256 \n", anchors.concat()));
    assert!(matches!(many.parse::<Bundle>(), Err(BundleError::Line { .. })));
}

/// Every base64 text of the bundle in another spelling of the same bytes.
#[test]
fn no_word_has_a_second_spelling() {
    let (text, trust) = full();
    let is_base64 = |word: &&str| word.len() >= 43 && !word.starts_with("0x") && !word.contains("://");
    let mut tried = 0;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with("sha256 ")) {
        for word in line.split([' ', ',', '.']).filter(is_base64) {
            let Some((at, last)) = word.char_indices().rfind(|(_, c)| c.is_ascii_alphanumeric()) else {
                continue;
            };
            let next = char::from(u8::try_from(last).unwrap() + 1);
            for spelling in
                [format!("{word}="), format!("{}{next}{}", &word[..at], &word[at + 1..]), format!("{word} ")]
            {
                let spoilt: Vec<String> = text
                    .lines()
                    .enumerate()
                    .map(
                        |(at, line)| {
                            if at == number { line.replace(word, &spelling) } else { line.to_owned() }
                        },
                    )
                    .collect();
                let spoilt = reseal(&(spoilt.join("\n") + "\n"));
                assert!(!passes(&spoilt, &trust), "line {number}: {word} as {spelling}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_log_witness_or_registrar_under_another_key_is_not_believed() {
    let (text, trust) = full();
    let bundle: Bundle = text.parse().unwrap();
    let mut ledger = Ledger::new();
    ledger.witness = signer("regulator.example/w", 11);
    assert_ne!(verify(&bundle, &ledger.trust()).verdict, Verdict::Valid);
    ledger = Ledger::new();
    ledger.registrar = secret(11);
    assert_ne!(verify(&bundle, &ledger.trust()).verdict, Verdict::Valid);
    let own = signer(ORIGIN, 3).verifier().to_string();
    for other in [signer(ORIGIN, 11), signer("log.example/suyuan-test/2025", 3)] {
        let other = Ledger::new().trust_text().replace(&own, &other.verifier().to_string());
        assert_ne!(verify(&bundle, &other.parse().unwrap()).verdict, Verdict::Valid);
    }
    assert_eq!(verify(&bundle, &trust).verdict, Verdict::Valid);
}

#[test]
fn a_line_by_a_witness_whom_nobody_named_leaves_it_open() {
    let (text, trust) = full();
    let mut bundle: Bundle = text.parse().unwrap();
    let line =
        crate::tlog::cosignature::cosign(&bundle.checkpoints[0].text, 1, &signer("stranger.example", 9));
    bundle.checkpoints[0].signatures.push(line);
    assert_eq!(verify(&bundle, &trust).verdict, Verdict::CouldNotCheck);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Lines of a bundle, thrown together: nothing panics, and what passes says the same with less disclosed or anchored.
    #[test]
    fn no_text_makes_it_panic_or_say_something_else(
        picks in prop::collection::vec((0_usize..10_000, 0_usize..10_000), 1..12),
    ) {
        let (text, trust) = full();
        let mut lines: Vec<&str> = text.lines().collect();
        for (one, other) in picks {
            let (one, other) = (one % (lines.len() - 1), other % (lines.len() - 1));
            match (one + other) % 3 {
                0 => lines.swap(one, other),
                1 => lines[one] = lines[other],
                _ => drop(lines.remove(one)),
            }
        }
        let spoilt = reseal(&(lines.join("\n") + "\n"));
        if passes(&spoilt, &trust) {
            prop_assert_eq!(bare(&spoilt), bare(&text));
            prop_assert!(spoilt.lines().all(|line| line.starts_with("sha256 ") || text.contains(line)));
        }
    }
}

/// What may not be left out.
fn bare(text: &str) -> Bundle {
    let mut bundle: Bundle = text.parse().unwrap();
    bundle.anchors.clear();
    for item in &mut bundle.items {
        if let Signed::Record { disclosures, .. } = &mut item.signed {
            disclosures.clear();
        }
    }
    bundle
}
