//! Eucalyptus to plywood near Wuzhou: T1–T7, two compartments with permits, tally lists, one load over its permit.
//!
//! Guangxi's fast eucalyptus is felled at five to seven years with 12 to 20 cm at the small end; rotary peeling gets 60 to
//! 75 % of the log as veneer (made-up figures within that range).

use serde_json::json;
use trace::{quantity::Decimal, rules::formula::log_volume};

use super::{
    Commodity,
    client::FrontDoorError,
    scene::{Scene, fields, gtin, lot, place, sscc},
};

const LOGS: u32 = 50;
const VENEER: u32 = 51;
const PLYWOOD: u32 = 52;
const OFFCUTS: u32 = 53;
const FACTORY: u32 = 150;
const BUYER: u32 = 151;
const FORESTS: u32 = 160;

struct Felling {
    number: &'static str,
    compartment: &'static str,
    permit: &'static str,
    day: i64,
    diameters: &'static [i64],
}

const FELLINGS: [Felling; 2] = [
    Felling {
        number: "M0001",
        compartment: "x12",
        permit: "CF-2601",
        day: 2,
        diameters: &[16, 18, 20, 14, 18, 16, 22, 20, 18, 16, 14, 20],
    },
    Felling {
        number: "M0002",
        compartment: "x15",
        permit: "CF-2602",
        day: 3,
        diameters: &[18, 18, 16, 20, 22, 24, 18, 16, 20, 18],
    },
];
/// The load that the permit no longer covers.
const TOO_MUCH: Felling = Felling {
    number: "M0003",
    compartment: "x12",
    permit: "CF-2601",
    day: 4,
    diameters: &[24, 26, 24, 28, 26, 24],
};

impl Felling {
    /// One line per log of 2.6 m, the length that peeling lathes take twice.
    fn tally(&self) -> String {
        let line =
            |(index, diameter): (usize, &i64)| format!("{}-{:02} 2.6 {diameter}", self.number, index + 1);
        self.diameters.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
    }

    fn volume(&self) -> Option<Decimal> {
        let length = Decimal::new(26, 1)?;
        self.diameters.iter().try_fold(Decimal::ZERO, |sum, diameter| {
            sum.checked_add(log_volume(length, Decimal::integer(*diameter))?)
        })
    }

    fn form(&self, scene: &Scene) -> Result<Vec<(String, String)>, FrontDoorError> {
        let (factory, felled) = (scene.iss("wuzhou")?, scene.date(self.day));
        Ok(fields(&[
            ("compartment", &place(FORESTS, self.compartment)),
            ("permit", self.permit),
            ("buyer", &factory),
            ("lot", self.number),
            ("species", "eucalyptus"),
            ("felled", &felled),
            ("tally", &self.tally()),
            ("grade", "1"),
        ]))
    }
}

pub async fn play(scene: &mut Scene) -> Result<Commodity, FrontDoorError> {
    register(scene).await?;
    let mut logs = Vec::new();
    for felling in &FELLINGS {
        logs.push(from_forest_to_yard(scene, felling).await?);
    }
    let form = TOO_MUCH.form(scene)?;
    let at = scene.moment(TOO_MUCH.day, 10, 0);
    scene.refused_step("mo", ("timber", "fell", TOO_MUCH.number), (at, "over-permit"), form).await?;
    make_plywood(scene, &logs).await?;
    export(scene).await
}

async fn register(scene: &mut Scene) -> Result<(), FrontDoorError> {
    scene.organisation("wuzhou", "factory", "梧州人造板厂（演示）", FACTORY).await?;
    scene.organisation("hafen", "buyer", "Nordholz Import (Demo)", BUYER).await?;
    scene.place("wuzhou", "pile3", ("pile", "3号楞堆"), FACTORY).await?;
    scene.place("wuzhou", "press", ("factory", "旋切压板车间"), FACTORY).await?;
    scene.place("hafen", "quay", ("warehouse", "Quay store"), BUYER).await?;
    scene.person("mo", "forester", "莫家林", "广西藤县").await?;
    for (slug, name, permit, cubic_metres, west) in [
        ("x12", "12林班3小班", "CF-2601", "1.2", 110.913_2),
        ("x15", "15林班1小班", "CF-2602", "2.0", 110.941_7),
    ] {
        let (south, east, north) = (23.372_5, west + 0.004_2, 23.375_1);
        let polygon = [[west, south], [east, south], [east, north], [west, north], [west, south]];
        scene.plot("mo", slug, ("compartment", name, "广西藤县"), (FORESTS, &polygon)).await?;
        let body = json!({"party": "mo", "place": slug, "profile": "timber", "kind": "felling", "number": permit,
            "allowed": cubic_metres, "unit": "MTQ", "valid_from": scene.date(-60), "valid_until": scene.date(120),
            "details": {"method": "皆伐", "species": "Eucalyptus urophylla × grandis", "hectares": "1.2"}});
        scene.permit(&body).await?;
    }
    for (item, product, name) in [
        (LOGS, "log", "桉原木"),
        (VENEER, "veneer", "桉单板"),
        (PLYWOOD, "plywood", "胶合板 18mm"),
        (OFFCUTS, "offcuts", "剩余物"),
    ] {
        scene.item("wuzhou", item, ("timber", product), name).await?;
    }
    Ok(())
}

/// Gives the lot and the volume measured in the yard.
async fn from_forest_to_yard(
    scene: &mut Scene,
    felling: &Felling,
) -> Result<(String, String), FrontDoorError> {
    let Felling { number, day, .. } = felling;
    let form = felling.form(scene)?;
    let at = scene.moment(*day, 10, 0);
    scene.step("mo", ("timber", "fell", number), at, form).await?;
    let volume = felling.volume().unwrap_or(Decimal::ZERO).to_string();
    let (factory, pile, logs) = (scene.iss("wuzhou")?, place(FACTORY, "pile3"), lot(LOGS, number));
    let (load, certificate) = (format!("load:{logs}"), format!("ZJ-{number}"));
    let form = fields(&[
        ("consignment", number),
        (&load, &volume),
        ("from", &place(FORESTS, felling.compartment)),
        ("to", &factory),
        ("to-place", &pile),
        ("truck", "桂D·演示66"),
        ("driver", "覃师傅"),
        ("quarantine", &certificate),
    ]);
    let at = scene.moment(*day, 14, 0);
    scene.step("mo", ("timber", "haul", number), at, form).await?;
    // The yard measures again: ten litres less, within the 3 % that the profile lets pass unsaid.
    let measured = felling.volume().and_then(|volume| volume.checked_sub(Decimal::new(10, 3)?));
    let measured = measured.unwrap_or(Decimal::ZERO).to_string();
    let ledger = format!("TZ-{number}");
    let form = fields(&[
        ("consignment", &scene.document("mo", number)?),
        ("place", &pile),
        ("volume", &measured),
        ("ledger", &ledger),
    ]);
    let at = scene.moment(*day, 18, 0);
    scene.step("wuzhou", ("timber", "receive-logs", number), at, form).await?;
    Ok((logs, measured))
}

async fn make_plywood(scene: &mut Scene, logs: &[(String, String)]) -> Result<(), FrontDoorError> {
    let floor = place(FACTORY, "press");
    let mut form = fields(&[
        ("run", "XQ-1"),
        ("place", &floor),
        ("veneer", "V1"),
        ("veneer-volume", "1.150"),
        ("offcuts", "V1"),
        ("offcuts-volume", "0.350"),
        ("thickness", "2.2"),
    ]);
    form.extend(logs.iter().map(|(lot, volume)| (format!("logs:{lot}"), volume.clone())));
    let at = scene.moment(5, 9, 0);
    scene.step("wuzhou", ("timber", "peel", "V1"), at, form).await?;
    let used = format!("veneer:{}", lot(VENEER, "V1"));
    let form = fields(&[
        ("run", "YB-1"),
        ("place", &floor),
        (&used, "1.150"),
        ("plywood", "K1"),
        ("volume", "1.020"),
        ("layers", "9"),
        ("thickness", "18"),
        ("glue", "i"),
        ("formaldehyde", "e1"),
        ("share-eucalyptus", "100"),
    ]);
    let at = scene.moment(6, 9, 0);
    scene.step("wuzhou", ("timber", "press", "K1"), at, form).await?;
    let form = fields(&[
        ("lot", &lot(PLYWOOD, "K1")),
        ("place", &floor),
        ("report", "JC-K1"),
        ("result", "conformant"),
        ("moisture", "9.4"),
        ("bond", "1.1"),
        ("formaldehyde", "0.062"),
    ]);
    let at = scene.moment(8, 9, 0);
    scene.step("wuzhou", ("timber", "test", "K1"), at, form).await?;
    Ok(())
}

async fn export(scene: &mut Scene) -> Result<Commodity, FrontDoorError> {
    let (panels, floor, buyer) = (lot(PLYWOOD, "K1"), place(FACTORY, "press"), scene.iss("hafen")?);
    // A panel of 1220 × 2440 × 18 mm is 0.0536 m³: nineteen of them.
    let form = fields(&[("lot", &panels), ("pieces", "19"), ("place", &floor)]);
    let at = scene.moment(8, 12, 0);
    let coded_by = scene.step("wuzhou", ("timber", "label", "K1"), at, form).await?;
    let load = format!("load:{panels}");
    let form = fields(&[("pallet", &sscc(3)), (&load, "1.000"), ("place", &floor)]);
    let at = scene.moment(8, 13, 0);
    scene.step("wuzhou", ("timber", "palletise", "P3"), at, form).await?;
    let quay = place(BUYER, "quay");
    let form = fields(&[
        ("consignment", "EX-1"),
        (&load, "1.000"),
        ("from", &floor),
        ("to", &buyer),
        ("to-place", &quay),
        ("hs", "4412"),
        ("net-mass", "620"),
        ("country", "DE"),
        ("dds", "26DEDEMO0000001"),
        ("container", "DEMU0000001"),
        ("claim", "none"),
    ]);
    let at = scene.moment(9, 8, 0);
    scene.step("wuzhou", ("timber", "ship", "EX-1"), at, form).await?;
    let form = fields(&[("consignment", &scene.document("wuzhou", "EX-1")?), ("place", &quay)]);
    let at = scene.moment(10, 8, 0);
    scene.step("hafen", ("timber", "receive", "EX-1"), at, form).await?;
    Ok(Commodity { name: "timber", lot_path: format!("/01/{}/10/K1", gtin(PLYWOOD)), coded_by })
}
