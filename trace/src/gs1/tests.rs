use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// The rows of a file of GS1's own vectors, or `None`, said loudly, where they are missing.
fn vectors(file: &str) -> Option<Vec<Value>> {
    let path = format!("{}/../../shared/data/gs1-syntax-vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: GS1 syntax vectors are missing: {file}");
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

fn linter_rows(linter: &str, accepts: impl Fn(&str) -> bool) -> usize {
    let Some(rows) = vectors("linters.json") else { return 0 };
    let rows: Vec<_> = rows.iter().filter(|row| row["linter"] == linter && row["data"].is_string()).collect();
    assert!(!rows.is_empty());
    for row in &rows {
        assert_eq!(accepts(row["data"].as_str().unwrap()), row["pass"] == true, "{row}");
    }
    rows.len()
}

#[test]
fn check_digits_and_character_sets_judge_as_gs1s_linters_do() {
    use text::{in_set_39, in_set_82};
    linter_rows("csum", |data| verify_check_digit(data).is_ok());
    linter_rows("cset82", |data| data.bytes().all(in_set_82));
    linter_rows("cset39", |data| data.bytes().all(in_set_39));
    linter_rows("csumalpha", |data| {
        // One row is longer than a model number may be; the weights beyond that are not needed.
        data.len() > ModelNumber::CHARACTERS_MAX
            || data.bytes().all(in_set_82) && text::check_pair(data).is_ok()
    });
}

/// `^…` as GS1's engine writes it, with its separators dropped: enough to compare values.
fn flat(link: &DigitalLink) -> String {
    let key = link.key.elements().into_iter().map(|(ai, value)| format!("{ai}{value}"));
    key.chain(link.attributes.iter().map(|(ai, value)| {
        let short_gtin = ai == "01" && value.len() < 14;
        if short_gtin { format!("{ai}{value:0>14}") } else { format!("{ai}{value}") }
    }))
    .collect()
}

#[test]
fn digital_links_parse_as_gs1s_syntax_engine_parses_them() {
    let Some(rows) = vectors("test_parseDLuri.json") else { return };
    let mut tried = 0;
    for row in &rows {
        let state = &row["state"];
        // Two options of the engine that this parser does not have: alphabetic key names and unknown AIs.
        if state["permitConvenienceAlphas"] == "true" || state["PermitUnknownAIs"] == "true" {
            continue;
        }
        tried += 1;
        let uri = row["args"][1].as_str().unwrap();
        let parsed: Result<DigitalLink, _> = uri.parse();
        assert_eq!(parsed.is_ok(), row["args"][0] == true, "{uri}: {parsed:?}");
        if let Ok(link) = parsed {
            assert_eq!(flat(&link), row["args"][2].as_str().unwrap().replace('^', ""), "{uri}");
        }
    }
    assert_eq!(tried, 56);
}

#[test]
fn escapes_are_written_as_gs1s_syntax_engine_writes_them() {
    let Some(rows) = vectors("test_URIescape.json") else { return };
    for row in &rows {
        assert_eq!(percent::encode(row["args"][0].as_str().unwrap()), row["args"][1].as_str().unwrap());
    }
}

const PAIRS: [(&str, &str); 24] = [
    ("urn:epc:id:sgtin:4012345.012345.12", "/01/04012345123456/21/12"),
    ("urn:epc:id:sscc:4012345.0000000333", "/00/040123450000003338"),
    ("urn:epc:id:grai:4012345.66666.87", "/8003/0401234566666387"),
    ("urn:epc:id:giai:4012345.AAbb", "/8004/4012345AAbb"),
    ("urn:epc:id:gsrn:4012345.9876540000", "/8018/401234598765400000"),
    ("urn:epc:id:gsrnp:4012345.0000098765", "/8017/401234500000987658"),
    ("urn:epc:id:gdti:4012345.55555.98", "/253/401234555555498"),
    ("urn:epc:id:cpi:4012345.ABC.123", "/8010/4012345ABC/8011/123"),
    ("urn:epc:id:sgcn:4012345.99999.44", "/255/401234599999044"),
    ("urn:epc:id:ginc:4012345.333", "/401/4012345333"),
    ("urn:epc:id:gsin:4012345.999987654", "/402/40123459999876541"),
    ("urn:epc:id:itip:4012345.012345.01.02.999", "/8006/040123451234560102/21/999"),
    ("urn:epc:id:upui:4012345.012345.AB12", "/01/04012345123456/235/AB12"),
    ("urn:epc:id:sgln:4012345.00011.987", "/414/4012345000115/254/987"),
    ("urn:epc:id:sgln:4012345.00011.0", "/414/4012345000115"),
    ("urn:epc:id:pgln:4012345.00011", "/417/4012345000115"),
    ("urn:epc:class:lgtin:4054739.099914.20160711", "/01/04054739999148/10/20160711"),
    ("urn:epc:idpat:sgtin:4054739.099914.*", "/01/04054739999148"),
    ("urn:epc:idpat:grai:4012345.66666.*", "/8003/04012345666663"),
    ("urn:epc:idpat:gdti:4012345.55555.*", "/253/4012345555554"),
    ("urn:epc:idpat:sgcn:4012345.99999.*", "/255/4012345999990"),
    ("urn:epc:idpat:cpi:4012345.ABC.*", "/8010/4012345ABC"),
    ("urn:epc:idpat:itip:4012345.012345.01.02.*", "/8006/040123451234560102"),
    ("urn:epc:class:lgtin:4012345.012345.A%2FB%25.c", "/01/04012345123456/10/A%2FB%25.c"),
];

#[test]
fn every_epc_scheme_with_a_digital_link_goes_there_and_back() {
    for (urn, path) in PAIRS {
        let key = key_from_urn(urn).unwrap_or_else(|error| panic!("{urn}: {error}"));
        assert_eq!(key.uri(), format!("https://id.gs1.org{path}"));
        assert_eq!(key.uri().parse::<Key>().unwrap(), key);
        assert_eq!(urn_of(&key, 7).unwrap(), urn);
    }
}

#[test]
fn epc_schemes_without_a_digital_link_are_refused_by_name() {
    for scheme in ["gid", "usdod", "adi", "bic", "imovn"] {
        let refused = key_from_urn(&format!("urn:epc:id:{scheme}:1.2.3"));
        assert_eq!(refused, Err(UrnError::NoDigitalLink(scheme.to_owned())));
    }
    assert_eq!(key_from_urn("urn:epc:idpat:sgtin:4012345.*.*"), Err(UrnError::Pattern));
    assert_eq!(
        key_from_urn("urn:epc:id:sgtin:4012345.01234.12"),
        Err(UrnError::Digits { expected: 13, found: 12 })
    );
}

#[test]
fn the_printed_upper_case_code_reads_as_the_canonical_link() {
    let link: DigitalLink = "HTTPS://TRACE.EXAMPLE/01/09520123456788/21/3F7K2M9Q0R5T8V1XZ".parse().unwrap();
    assert_eq!(link.key.uri(), "https://id.gs1.org/01/09520123456788/21/3F7K2M9Q0R5T8V1XZ");
    assert!(link.key.is_instance());
}

#[test]
fn a_lot_is_read_from_any_resolver_and_written_canonically() {
    let lot: LotId = "http://mill.example/x/01/09520123456788/10/20260118%2FA?17=270118".parse().unwrap();
    assert_eq!(lot.lot.as_str(), "20260118/A");
    assert_eq!(serde_json::to_value(&lot).unwrap(), "https://id.gs1.org/01/09520123456788/10/20260118%2FA");
    assert!("https://id.gs1.org/01/09520123456788/21/1".parse::<LotId>().is_err());
    assert_eq!("09520123456780".parse::<Gtin>(), Err(KeyError::CheckDigit { expected: 8, found: 0 }));
}

#[test]
fn a_handle_keeps_its_prefix_and_suffix_and_nothing_else_passes() {
    let handle: Handle = "88.100.5/sugar.r50.20260118.1".parse().unwrap();
    assert_eq!((handle.prefix(), handle.suffix()), ("88.100.5", "sugar.r50.20260118.1"));
    assert_eq!(handle.path(), "/hdl/88.100.5/sugar.r50.20260118.1");
    for wrong in ["89.100.5/a", "88/a", "88.1.2", "88.1.2/", "88.x/a", "88.1.2/a b", "88.1.2/a/b"] {
        assert!(wrong.parse::<Handle>().is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in "\\PC{0,60}", path in "(/[0-9]{2,4}/[ -~]{0,20}){1,4}") {
        drop(text.parse::<DigitalLink>());
        drop(text.parse::<Handle>());
        drop(key_from_urn(&format!("urn:epc:id:sgtin:{text}")));
        if let Ok(link) = format!("https://id.gs1.org{path}").parse::<DigitalLink>() {
            prop_assert_eq!(link.key.uri().parse::<Key>().unwrap(), link.key);
        }
    }

    #[test]
    fn every_lot_number_survives_the_uri(lot in "[!\"%-?A-Z_a-z]{1,20}") {
        let id = LotId { gtin: "09520123456788".parse().unwrap(), lot: lot.parse().unwrap() };
        prop_assert_eq!(id.uri().parse::<LotId>().unwrap(), id);
    }
}
