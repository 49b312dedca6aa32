use std::sync::Arc;

use super::{
    sparkplug::{self, Edge, Metric, Payload, Raw},
    *,
};
use crate::pack::senml::{Number, Value};

fn map(text: &str) -> Map {
    serde_json::from_str(text).unwrap()
}

fn decimal(text: &str) -> Option<Value> {
    Number::parse(text).map(Value::Number)
}

fn told(readings: &[Reading]) -> Vec<(&str, Option<&str>, Option<Value>)> {
    readings.iter().map(|r| (r.name.as_str(), r.unit.as_deref(), r.value.clone())).collect()
}

const UP: &[u8] = include_bytes!("golden/chirpstack-up.json");
const STATUS: &[u8] = include_bytes!("golden/chirpstack-status.json");

#[test]
fn a_chirpstack_uplink_is_read_from_its_decoded_object_and_from_the_event_around_it() {
    let map = map(r#"{"readings":{"/temp":{"n":"temp","u":"Cel"},"/rh":{"n":"rh","u":"%RH"}},
            "event":{"/rxInfo/0/rssi":{"n":"rssi","u":"dBm"}},"node":"0101010101010101"}"#);
    assert_eq!(map.check(Format::Chirpstack), Ok(()));
    let readings = chirpstack(UP, &map).unwrap();
    assert_eq!(
        told(&readings),
        [("temp", Some("Cel"), decimal("22.5")), ("rssi", Some("dBm"), decimal("-36"))]
    );
    assert!(readings.iter().all(|reading| reading.time_us == 1_658_136_855_775_023));
}

#[test]
fn a_chirpstack_status_tells_battery_and_margin_unless_the_battery_cannot_be_told() {
    let readings = chirpstack(STATUS, &Map::default()).unwrap();
    assert_eq!(
        told(&readings),
        [("battery", Some("%EL"), decimal("88.3")), ("margin", Some("dB"), decimal("10"))]
    );
    let mains = br#"{"margin":10,"externalPowerSource":true,"batteryLevel":0}"#;
    assert_eq!(told(&chirpstack(mains, &Map::default()).unwrap()), [("margin", Some("dB"), decimal("10"))]);
}

#[test]
fn an_uplink_without_codec_and_one_without_mapped_members_are_refused_with_their_reasons() {
    let temp = map(r#"{"readings":{"/temp":{"n":"temp"}}}"#);
    assert_eq!(chirpstack(br#"{"data":"qg=="}"#, &temp), Err(UplinkError::NoCodec));
    assert_eq!(chirpstack(br#"{"object":{"rh":1}}"#, &temp), Err(UplinkError::Unmapped));
    assert_eq!(chirpstack(br#"{"object":{"temp":null}}"#, &temp), Err(UplinkError::Value));
    assert_eq!(chirpstack(br#"{"object":{"temp":1},"time":"now"}"#, &temp), Err(UplinkError::Time));
}

#[test]
fn an_instruments_json_is_read_in_the_unit_of_its_map() {
    let map = map(
        r#"{"readings":{"/weight/net":{"n":"net","u":"kg","times":"1000"},"/tare":{"n":"tare","u":"kg","text":true},
            "/plate":{"n":"plate"}},"time":"/at"}"#,
    );
    assert_eq!(map.check(Format::Json), Ok(()));
    let ticket =
        r#"{"at":"2025-12-03T08:00:00.5+08:00","weight":{"net":23.5605},"tare":" 8120.5 kg","plate":"桂A"}"#;
    let readings = json(ticket.as_bytes(), &map).unwrap();
    let plate = Some(Value::Text("桂A".to_owned()));
    let tare = decimal("8120.5");
    assert_eq!(told(&readings)[..2], [("plate", None, plate), ("tare", Some("kg"), tare)]);
    let Some(Value::Number(net)) = readings[2].value else { panic!("no number") };
    assert_eq!(net.in_units_of(-3), Some(23_560_500));
    assert_eq!(readings[0].time_us, 1_764_720_000_500_000);
}

#[test]
fn what_a_map_cannot_read_is_refused_with_its_reason() {
    let map = map(r#"{"readings":{"/t":{"n":"t","u":"Cel"}},"time":"/at"}"#);
    for (payload, reason) in [
        (&br#"{"at":1700000000}"#[..], "unmapped"),
        (br#"{"at":"yesterday","t":1}"#, "time"),
        (br#"{"t":1}"#, "time"),
        (br#"{"at":1700000000,"t":[1]}"#, "value"),
        (br#"{"at":1700000000,"t":1e999}"#, "not-json"),
        (br#"{"at":1700000000,"t":NaN}"#, "not-json"),
        (br#"{"at":1700000000,"t":Infinity}"#, "not-json"),
        (br#"{"at":1700000000,"t":1,"t":2}"#, "not-json"),
        (b"{\"at\":1700000000,\"t\":\"\xff\"}", "not-json"),
        ("[".repeat(60_000).as_bytes(), "not-json"),
        (vec![b' '; 10 * 1024 * 1024].as_slice(), "not-json"),
    ] {
        let error = json(payload, &map).unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(UplinkError::REASONS.contains(&reason));
    }
}

#[test]
fn a_clock_of_1970_counts_from_the_arrival() {
    let map = map(r#"{"readings":{"/t":{"n":"t"}},"time":"/at"}"#);
    assert_eq!(json(br#"{"at":12,"t":1}"#, &map).unwrap()[0].time_us, 0);
}

#[test]
fn a_map_of_another_form_is_no_devices() {
    for (text, format, error) in [
        (r#"{"readings":{"/t":{"n":"t","u":"bananas"}}}"#, Format::Json, MapError::Unit),
        (r#"{"readings":{"/t":{"n":"t t"}}}"#, Format::Json, MapError::Name),
        (r#"{"readings":{"t":{"n":"t"}}}"#, Format::Json, MapError::Member),
        (r#"{"readings":{"t":{"n":"t"}}}"#, Format::Sparkplug, MapError::Node),
        (r#"{"node":"a/b/c/d"}"#, Format::Sparkplug, MapError::Node),
        (r#"{"node":"a/+"}"#, Format::Sparkplug, MapError::Node),
        (r#"{"node":"0101010101010101"}"#, Format::Json, MapError::Node),
        (r#"{"node":"01010101010101"}"#, Format::Chirpstack, MapError::Node),
        (r#"{"event":{"/a":{"n":"a"}}}"#, Format::Json, MapError::Member),
        (r#"{"readings":{"/a":{"n":"a"}}}"#, Format::SenmlJson, MapError::Member),
    ] {
        assert_eq!(map(text).check(format), Err(error), "{text}");
    }
    assert!(serde_json::from_str::<Map>(r#"{"readings":{"/t":{"n":"t","times":"x"}}}"#).is_err());
}

fn usual(profile: &str, kind: &str) -> Map {
    let profile = crate::profile::Profile::parse(profile).unwrap();
    profile.device_map(kind, Format::Json).unwrap().map.clone()
}

const RADWAG: &str = include_str!("golden/radwag-weighing.json");

#[test]
fn the_grain_profile_reads_a_radwag_terminals_weighing() {
    let map = usual(include_str!("../../../profiles/grain.toml"), "weighbridge");
    let readings = json(RADWAG.as_bytes(), &map).unwrap();
    assert_eq!(told(&readings), [("gross", Some("kg"), decimal("0.127"))]);
    // 15:53:17.858 at +08:00.
    assert_eq!(readings[0].time_us, 1_608_623_597_858_000);
    for (wanted, other) in [("\"isStab\": true", "\"isStab\": false"), ("\"kg\"", "\"lb\"")] {
        assert_eq!(json(RADWAG.replace(wanted, other).as_bytes(), &map), Err(UplinkError::Only));
    }
}

#[test]
fn the_grain_profile_reads_a_tasmota_thermometer() {
    let map = usual(include_str!("../../../profiles/grain.toml"), "probe");
    let readings = json(include_bytes!("golden/tasmota-ds18b20.json"), &map).unwrap();
    assert_eq!(told(&readings), [("temp", Some("Cel"), decimal("49.7"))]);
    assert_eq!(readings[0].time_us, 1_546_272_000_000_000);
}

fn golden(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn take(edge: &mut Edge, verb: &str, device: &str, hex: &str, map: &Arc<Map>) -> sparkplug::Read {
    let topic = format!("spBv1.0/Sparkplug B Devices/{verb}/Raspberry Pi{device}").parse().unwrap();
    edge.take(&topic, &golden(hex), Some(map))
}

const NBIRTH: &str = include_str!("golden/sparkplug-nbirth.hex");
const DBIRTH: &str = include_str!("golden/sparkplug-dbirth.hex");
const NDATA: &str = include_str!("golden/sparkplug-ndata.hex");
const DDATA: &str = include_str!("golden/sparkplug-ddata.hex");
const NCMD: &str = include_str!("golden/sparkplug-ncmd.hex");
const NDEATH: &str = include_str!("golden/sparkplug-ndeath.hex");
const DDEATH: &str = include_str!("golden/sparkplug-ddeath.hex");

#[test]
fn the_examples_of_the_sparkplug_specification_are_read_in_their_order() {
    let node = Arc::new(map(
        r#"{"node":"Sparkplug B Devices/Raspberry Pi","readings":{"Supply Voltage":{"n":"supply","u":"V"}}}"#,
    ));
    let device = Arc::new(map(
        r#"{"node":"Sparkplug B Devices/Raspberry Pi/Pibrella","readings":{"Inputs/A":{"n":"a"},"Inputs/C":{"n":"c"}}}"#,
    ));
    assert_eq!(node.check(Format::Sparkplug), Ok(()));
    let mut edge = Edge::default();
    let float = |value: f32| Some(Value::Number(Number::Float(f64::from(value))));
    let flag = |value| Some(Value::Bool(value));

    let read = take(&mut edge, "NBIRTH", "", NBIRTH, &node);
    let readings = read.readings.unwrap();
    assert_eq!(told(&readings), [("online", None, flag(true)), ("supply", Some("V"), float(12.1))]);
    assert!(readings.iter().all(|reading| reading.time_us == 1_486_144_502_122_000));

    let read = take(&mut edge, "DBIRTH", "/Pibrella", DBIRTH, &device);
    let readings = read.readings.unwrap();
    assert_eq!(
        told(&readings),
        [("online", None, flag(true)), ("a", None, flag(false)), ("c", None, flag(false))]
    );

    let read = take(&mut edge, "NDATA", "", NDATA, &node);
    assert_eq!((read.missed, read.wants_rebirth), (0, false));
    assert_eq!(told(&read.readings.unwrap()), [("supply", Some("V"), float(12.3))]);

    // The example numbers it 0 behind 2: 253 messages are missing, and the births should be told again.
    let read = take(&mut edge, "DDATA", "/Pibrella", DDATA, &device);
    assert_eq!((read.missed, read.wants_rebirth), (253, true));
    let readings = read.readings.unwrap();
    let gap = ("seq.gap", Some("count"), decimal("253"));
    assert_eq!(told(&readings), [("a", None, flag(true)), ("c", None, flag(true)), gap]);

    let read = take(&mut edge, "DDEATH", "/Pibrella", DDEATH, &device);
    let readings = read.readings.unwrap();
    let gap = ("seq.gap", Some("count"), decimal("122"));
    assert_eq!(told(&readings), [("online", None, flag(false)), gap]);

    let readings = take(&mut edge, "NDEATH", "", NDEATH, &node).readings.unwrap();
    assert_eq!(told(&readings), [("online", None, flag(false))]);
    assert_eq!(readings[0].time_us, 0);

    let read = take(&mut edge, "NDATA", "", NDATA, &node);
    assert_eq!(read.readings, Err(UplinkError::NoBirth));
    assert!(read.wants_rebirth);
}

#[test]
fn the_command_for_a_rebirth_is_the_specifications_example() {
    assert_eq!(sparkplug::rebirth(1_486_144_502_122), golden(NCMD));
    assert_eq!(
        sparkplug::command_topic("Sparkplug B Devices/Raspberry Pi").unwrap(),
        "spBv1.0/Sparkplug B Devices/NCMD/Raspberry Pi"
    );
}

/// A payload of one metric, written by hand: `[metric fields]`, time and sequence number.
fn payload(metric: &[u8], time: u8, seq: u8) -> Vec<u8> {
    let mut bytes = vec![0x08, time, 0x12, u8::try_from(metric.len()).unwrap()];
    bytes.extend_from_slice(metric);
    // Two bytes of varint, whether it needs them or not.
    bytes.extend_from_slice(&[0x18, seq | 0x80, seq >> 7]);
    bytes
}

/// Name `t` (in births), alias 7, datatype Int32 (in births), value.
const BIRTH: &[u8] = b"\x0a\x01t\x10\x07\x20\x03\x50\x05";
const DATA: &[u8] = b"\x10\x07\x50\x06";

fn node() -> (Edge, sparkplug::Topic, sparkplug::Topic, Arc<Map>) {
    let map = Arc::new(map(r#"{"node":"g/e","readings":{"t":{"n":"t","u":"Cel"}}}"#));
    let topic = |verb: &str| format!("spBv1.0/g/{verb}/e").parse().unwrap();
    (Edge::default(), topic("NBIRTH"), topic("NDATA"), map)
}

#[test]
fn an_alias_is_read_by_the_birth_and_not_after_a_gap_that_may_have_swallowed_another() {
    let (mut edge, birth, data, map) = node();
    edge.take(&birth, &payload(BIRTH, 1, 0), Some(&map)).readings.unwrap();
    let read = edge.take(&data, &payload(DATA, 2, 1), Some(&map));
    assert_eq!(told(&read.readings.unwrap()), [("t", Some("Cel"), decimal("6"))]);
    let read = edge.take(&data, &payload(DATA, 3, 3), Some(&map));
    assert_eq!((read.missed, read.wants_rebirth), (1, true));
    assert_eq!(read.readings, Err(UplinkError::NoBirth));
    let read = edge.take(&birth, &payload(BIRTH, 4, 0), Some(&map));
    let gap = ("seq.gap", Some("count"), decimal("1"));
    assert_eq!(told(&read.readings.unwrap())[2], gap);
    assert!(edge.take(&data, &payload(DATA, 5, 1), Some(&map)).readings.is_ok());
}

#[test]
fn a_message_delivered_again_misses_nothing_and_a_changed_map_wants_its_birth() {
    let (mut edge, birth, data, map) = node();
    edge.take(&birth, &payload(BIRTH, 1, 254), Some(&map)).readings.unwrap();
    for (time, seq) in [(2, 255), (3, 0), (2, 255), (3, 0), (4, 1)] {
        let read = edge.take(&data, &payload(DATA, time, seq), Some(&map));
        assert_eq!((read.missed, read.readings.is_ok()), (0, true), "{seq}");
    }
    let mut other = Map::clone(&map);
    other.readings.clear();
    let read = edge.take(&data, &payload(DATA, 5, 2), Some(&Arc::new(other)));
    assert_eq!(read.readings, Err(UplinkError::NoBirth));
    let other = edge.take(&data, &payload(b"\x10\x09\x50\x06", 6, 3), Some(&map));
    assert_eq!(told(&other.readings.unwrap()), [("seq", Some("count"), decimal("3"))]);
}

#[test]
fn a_death_of_an_earlier_session_is_not_this_ones() {
    let (mut edge, birth, data, map) = node();
    let death: sparkplug::Topic = "spBv1.0/g/NDEATH/e".parse().unwrap();
    let bd_seq = |number| [b"\x0a\x05bdSeq\x20\x08\x58".as_slice(), &[number]].concat();
    edge.take(&birth, &payload(&bd_seq(4), 1, 0), Some(&map)).readings.unwrap();
    let will = |number| {
        let metric = bd_seq(number);
        [&[0x12, u8::try_from(metric.len()).unwrap()], metric.as_slice()].concat()
    };
    assert_eq!(edge.take(&death, &will(3), Some(&map)).readings, Err(UplinkError::StaleDeath));
    assert!(edge.take(&data, &payload(DATA, 2, 1), Some(&map)).readings.is_ok());
    assert!(edge.take(&death, &will(4), Some(&map)).readings.is_ok());
    assert_eq!(sparkplug::refusal(&will(3)), UplinkError::StaleDeath);
}

#[test]
fn values_mean_what_their_datatype_says() {
    let value = |datatype, raw| {
        let (mut edge, birth, _, map) = node();
        let mut metric = vec![0x0a, 0x01, b't', 0x20, datatype];
        metric.extend_from_slice(raw);
        let read = edge.take(&birth, &payload(&metric, 1, 0), Some(&map)).readings;
        read.map(|mut readings| readings.pop().and_then(|reading| reading.value))
    };
    let integer = |number| Ok(Some(Value::Number(Number::integer(number))));
    assert_eq!(value(1, b"\x50\xff\x01"), integer(-1));
    assert_eq!(value(1, b"\x50\xff\xff\xff\xff\x0f"), integer(-1));
    assert_eq!(value(2, b"\x50\xfe\xff\x03"), integer(-2));
    assert_eq!(value(3, b"\x50\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), integer(-1));
    assert_eq!(value(1, b"\x50\x80\x02"), Err(UplinkError::Value));
    assert_eq!(value(4, b"\x58\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), integer(-1));
    assert_eq!(value(8, b"\x58\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Err(UplinkError::Value));
    assert_eq!(value(5, b"\x50\x80\x02"), Err(UplinkError::Value));
    assert_eq!(value(7, b"\x58\x05"), integer(5));
    assert_eq!(value(9, b"\x65\x00\x00\xc0\x7f"), Err(UplinkError::Value));
    assert_eq!(value(10, b"\x69\x00\x00\x00\x00\x00\x00\xf0\x7f"), Err(UplinkError::Value));
    assert_eq!(value(16, b"\x8a\x01\x00"), Err(UplinkError::Value));
    assert_eq!(value(12, b"\x7a\x02ok"), Ok(Some(Value::Text("ok".to_owned()))));
    // Null: only that it is online is told.
    assert_eq!(value(3, b"\x38\x01"), Ok(Some(Value::Bool(true))));
}

#[test]
fn a_payload_out_of_form_is_refused_before_anything_is_kept_of_it() {
    for bytes in [
        &b"\x08"[..],
        b"\x12\x7f",
        b"\x0b",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
        b"\x18\x80\x02",
        b"\x12\x03\x0a\x01\xff",
        b"\x0d\x00\x00\x00\x00",
        &[0x12, 0x00].repeat(10_001),
    ] {
        assert!(matches!(Payload::parse(bytes), Err(UplinkError::Sparkplug(_))), "{bytes:02x?}");
    }
    let metric = Metric { value: Some(Raw::Bool(true)), ..Metric::default() };
    assert_eq!(Payload::parse(b"\x12\x02\x70\x01\xf8\x06\x00").unwrap().metrics, [metric]);
    assert_eq!(sparkplug::refusal(&payload(DATA, 1, 1)), UplinkError::NoBirth);
    assert_eq!(sparkplug::refusal(b"{}").reason(), "not-sparkplug");
}

#[test]
fn topics_tell_node_device_and_verb() {
    let topic: sparkplug::Topic = "spBv1.0/g/DDATA/e/d".parse().unwrap();
    assert_eq!((topic.edge().as_str(), topic.node().as_str()), ("g/e", "g/e/d"));
    assert_eq!(topic.to_string(), "spBv1.0/g/DDATA/e/d");
    assert_eq!(sparkplug::edge_of("g/e/d"), "g/e");
    assert_eq!(sparkplug::edge_of("g/e"), "g/e");
    for other in [
        "spBv1.0/g/NDATA/e/d",
        "spBv1.0/g/DDATA/e",
        "spBv1.0/g/NCMD/e",
        "spBv1.0/STATE/h",
        "spBv1.0/g/NDATA/+",
        "spAv1.0/g/NDATA/e",
        "spBv1.0//NDATA/e",
    ] {
        assert!(other.parse::<sparkplug::Topic>().is_err(), "{other}");
    }
}
