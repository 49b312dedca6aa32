use super::*;

#[test]
fn base_fields_resolve_as_in_rfc_8428_section_5_1() {
    let json = br#"[
        {"bn":"urn:dev:ow:10e2073a01080063:","bt":1.276020076e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
        {"n":"current","t":-5,"v":1.2},
        {"n":"current","t":-4.5,"v":1.3}]"#;
    let readings = parse_json(json).unwrap();
    let read: Vec<_> = readings
        .iter()
        .map(|reading| {
            (reading.name.as_str(), reading.unit.as_deref(), reading.time_us, reading.value.clone())
        })
        .collect();
    let decimal = |mantissa| Some(Value::Number(Number::Decimal { mantissa, exponent: -1 }));
    assert_eq!(
        read,
        [
            ("urn:dev:ow:10e2073a01080063:voltage", Some("V"), 1_276_020_076_000_000, decimal(1201)),
            ("urn:dev:ow:10e2073a01080063:current", Some("A"), 1_276_020_071_000_000, decimal(12)),
            ("urn:dev:ow:10e2073a01080063:current", Some("A"), 1_276_020_071_500_000, decimal(13)),
        ]
    );
}

#[test]
fn the_cbor_of_rfc_8428_section_6_is_read() {
    // Base name, base time as a double, unit and value as in the RFC's example, cut to one record.
    let mut cbor = vec![0x81, 0xa5, 0x21, 0x65];
    cbor.extend_from_slice(b"urn:x");
    cbor.extend_from_slice(&[0x22, 0xfb, 0x41, 0xd3, 0x03, 0xa1, 0x5b, 0x00, 0x10, 0x62]);
    cbor.extend_from_slice(&[
        0x23, 0x61, b'A', 0x20, 0x05, 0x02, 0xfb, 0x40, 0x5e, 0x06, 0x66, 0x66, 0x66, 0x66, 0x66,
    ]);
    let readings = parse_cbor(&cbor).unwrap();
    let only = readings.first().unwrap();
    assert_eq!(only.time_us, 1_276_020_076_001_000);
    assert_eq!(only.unit.as_deref(), Some("A"));
    assert_eq!(only.value, Some(Value::Number(Number::Float(120.1))));
}

#[test]
fn what_is_written_is_read_back_exactly() {
    let reading = |name: &str, time_us, value| Reading {
        name: format!("urn:dev:org:32473-mill:scale1:{name}"),
        unit: Some("kg".to_owned()),
        time_us,
        value: Some(value),
        sum: None,
    };
    let readings = [
        reading(
            "gross",
            1_795_000_000_250_000,
            Value::Number(Number::Decimal { mantissa: 31_255, exponent: -2 }),
        ),
        reading("tare", 1_795_000_001_000_000, Value::Number(Number::integer(-8))),
        reading("raw", 1_795_000_000_000_000, Value::Number(Number::Float(0.1))),
        reading("ok", 1_795_000_000_000_000, Value::Bool(true)),
        reading("plate", 1_795_000_000_000_000, Value::Text("桂A".to_owned())),
        reading("blob", 1_795_000_000_000_000, Value::Data(vec![1, 2])),
    ];
    let cbor = write_cbor("urn:dev:org:32473-mill:scale1:", &readings).unwrap();
    assert_eq!(parse_cbor(&cbor).unwrap(), readings);
    assert!(write_cbor("urn:dev:org:32473-mill:scale2:", &readings).is_err());
    let relative = [reading("t", -5_000_000, Value::Bool(false))];
    assert_eq!(parse_cbor(&write_cbor("urn:", &relative).unwrap()).unwrap(), relative);
}

#[test]
fn records_out_of_form_are_refused() {
    for json in [
        "[]",
        "{}",
        "[1]",
        r#"[{"v":1}]"#,
        r#"[{"n":"a"}]"#,
        r#"[{"n":"a","v":1,"vb":true}]"#,
        r#"[{"n":"_a","v":1}]"#,
        r#"[{"n":"a b","v":1}]"#,
        r#"[{"n":"a","v":"1"}]"#,
        r#"[{"n":"a","v":1,"x_":1}]"#,
        r#"[{"n":"a","v":1,"bver":11}]"#,
        r#"[{"n":"a","v":1,"v":2}]"#,
        r#"[{"n":"a","v":1,"t":1e200}]"#,
        r#"[{"n":"a","vd":"AB"}]"#,
    ] {
        assert!(parse_json(json.as_bytes()).is_err(), "{json}");
    }
    assert!(parse_json(br#"[{"n":"a","v":1,"x":[1]}]"#).is_ok());
    for cbor in [
        &[0x9f, 0xff][..],
        b"\x81\xa2\x00\x61a\x02\x01\x00",
        b"\x81\xa3\x00\x61a\x02\x01\x02\x01",
        b"\x81\xbf\x00\x61a\x02\x01\xff",
        b"\x81\xa2\x00\x61a\x02\xc5\x82\x00\x01",
        b"\x81\xa2\x00\x61a\x02\xf9\x7e\x00",
    ] {
        assert!(parse_cbor(cbor).is_err(), "{cbor:02x?}");
    }
    assert!(parse_cbor(b"\x81\xa2\x00\x61a\x02\x01").is_ok());
}

#[test]
fn base_value_and_base_sum_add_exactly() {
    let readings =
        parse_json(br#"[{"bv":0.1,"bs":10,"n":"a","v":0.2,"s":1},{"n":"b"},{"n":"c","vb":true}]"#).unwrap();
    assert_eq!(readings[0].value, Some(Value::Number(Number::Decimal { mantissa: 3, exponent: -1 })));
    assert_eq!(readings[0].sum, Some(Number::integer(11)));
    assert_eq!(readings[1].value, Some(Value::Number(Number::Decimal { mantissa: 1, exponent: -1 })));
    assert_eq!(readings[2].value, Some(Value::Bool(true)));
}

#[test]
fn decimals_are_exact() {
    for (text, mantissa, exponent) in [("12.50", 1250, -2), ("-0.5", -5, -1), ("3e-4", 3, -4), ("-7", -7, 0)]
    {
        assert_eq!(Number::parse(text), Some(Number::Decimal { mantissa, exponent }), "{text}");
    }
    assert_eq!(Number::parse("0.3").map(|number| number.as_f64()), Some(0.3));
    assert_eq!(Number::parse("31.25").and_then(|tonnes| tonnes.in_units_of(-6)), Some(31_250_000));
    assert_eq!(Number::parse("0.0000001").and_then(|tonnes| tonnes.in_units_of(-6)), None);
    for text in ["", "x", "1e99", "99999999999999999999", "1.2.3"] {
        assert_eq!(Number::parse(text), None, "{text}");
    }
}

#[test]
fn a_json_number_of_more_digits_than_a_decimal_keeps_was_a_double_and_is_one() {
    let value = |text: &str| {
        let readings = parse_json(format!(r#"[{{"n":"a","v":{text}}}]"#).as_bytes()).unwrap();
        readings[0].value.clone()
    };
    assert_eq!(value("0.30000000000000004"), Some(Value::Number(Number::Float(0.300_000_000_000_000_04))));
    assert_eq!(value("100000000000000000000"), Some(Value::Number(Number::Float(1e20))));
    assert_eq!(value("0.3"), Number::parse("0.3").map(Value::Number));
    assert_eq!(value("-120000000000000000"), Number::parse("-120000000000000000").map(Value::Number));
}

#[test]
fn what_would_cost_memory_or_say_nothing_is_refused() {
    for json in [
        format!(r#"[{{"n":"a","v":1,"x":{}{}}}]"#, "[".repeat(50_000), "]".repeat(50_000)),
        format!("[{}]", vec![r#"{"n":"a","v":1}"#; 1_001].join(",")),
        " ".repeat(10 * 1024 * 1024),
        r#"[{"n":"a","v":NaN}]"#.to_owned(),
        r#"[{"n":"a","v":Infinity}]"#.to_owned(),
        r#"[{"n":"a","v":1e999}]"#.to_owned(),
    ] {
        assert!(parse_json(json.as_bytes()).is_err());
    }
    assert!(parse_json(b"[{\"n\":\"a\xff\",\"v\":1}]").is_err());
    for cbor in [
        // Arrays and maps that promise more than comes, within one another, and of indefinite length.
        &b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        b"\x9a\x00\x00\x03\xe8\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0x81; 16_000],
        &[&b"\x81\xa2\x00\x61a\x18\x64"[..], &[0x81; 16_000]].concat(),
        b"\x81\xa2\x00\x7b\x7f\xff\xff\xff\xff\xff\xff\xff\x61",
        b"\x81\xa2\x00\x61\xff\x02\x01",
        b"\x81\xa2\x00\x61a\x02\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00",
        b"\x81\xa2\x00\x61a\x02\xfa\xff\x80\x00\x00",
        b"\x81\xa2\x00\x61a\x02\xc2\x41\x01",
    ] {
        assert!(parse_cbor(cbor).is_err(), "{:02x?}", &cbor[..cbor.len().min(24)]);
    }
}

#[test]
fn a_unit_that_the_registry_does_not_have_is_told_apart() {
    for unit in ["kg", "Cel", "%RH", "ppm", "dBm", "/"] {
        assert!(is_registered(unit), "{unit}");
        let json = format!(r#"[{{"n":"a","u":"{unit}","v":1,"bver":26}}]"#);
        assert!(parse_json(json.as_bytes()).is_ok());
    }
    for unit in ["", "KG", "t", "degrees", "°C"] {
        let json = format!(r#"[{{"n":"b","v":1}},{{"n":"a","u":"{unit}","v":1}}]"#);
        assert_eq!(parse_json(json.as_bytes()), Err(SenmlError::Unit { record: 1 }), "{unit}");
    }
}

#[test]
fn floats_of_every_width_are_read() {
    for (cbor, value) in [
        (&b"\x81\xa2\x00\x61a\x02\xf9\x3e\x00"[..], 1.5),
        (b"\x81\xa2\x00\x61a\x02\xf9\xc4\x00", -4.0),
        (b"\x81\xa2\x00\x61a\x02\xf9\x00\x01", 5.960_464_477_539_063e-8),
        (b"\x81\xa2\x00\x61a\x02\xfa\x3f\xc0\x00\x00", 1.5),
    ] {
        assert_eq!(parse_cbor(cbor).unwrap()[0].value, Some(Value::Number(Number::Float(value))));
    }
}

#[test]
fn a_name_that_is_not_said_again_is_put_together_anew_where_its_base_changes() {
    let mut cbor = vec![0x84];
    cbor.extend_from_slice(&[0xa2, 0x00, 0x61, b'a', 0x02, 0x01, 0xa2, 0x00, 0x61, b'a', 0x02, 0x01]);
    cbor.extend_from_slice(&[0xa2, 0x21, 0x61, b'b', 0x02, 0x01, 0xa2, 0x00, 0x61, b'a', 0x02, 0x01]);
    let mut heard = Vec::new();
    assert_eq!(each_of_cbor(&cbor, |said| heard.push(said.name.to_owned())), Ok(4));
    assert_eq!(heard, ["a", "a", "b", "ba"]);
    let read: Vec<String> = parse_cbor(&cbor).unwrap().into_iter().map(|reading| reading.name).collect();
    assert_eq!(read, heard);
}

#[test]
fn a_label_stands_once_whether_rfc_8428_numbers_it_or_not() {
    // 57 and 58, 100, −7 and −8 beside a name and a value; each label written as in RFC 8949 §3.1.
    let labels: [&[u8]; 5] = [&[0x18, 0x39], &[0x18, 0x3a], &[0x18, 0x64], &[0x26], &[0x27]];
    let pack = |others: &[&[u8]]| {
        let mut cbor = vec![0x81, 0xa2 + u8::try_from(others.len()).unwrap(), 0x00, 0x61, b'a', 0x02, 0x01];
        cbor.extend(others.iter().flat_map(|label| [*label, &[0x00]].concat()));
        parse_cbor(&cbor)
    };
    assert!(pack(&labels).is_ok());
    for label in labels {
        assert_eq!(pack(&[label, label]), Err(SenmlError::Twice { record: 0 }), "{label:?}");
    }
    assert_eq!(pack(&[&[0x02]]), Err(SenmlError::Twice { record: 0 }));
}
