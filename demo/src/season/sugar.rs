//! Cane to sugar in Fusui county, Chongzuo, Guangxi: S1–S10 and six tickets over two crushing shifts.
//!
//! Public figures behind the made-up ones: Guangxi's mills took 12 % of the cane as sugar in their 2024/25 plans, 14.66 %
//! at best (press reports of the 2024/25 season); cane lorries carry 15 to 30 t; mills ask for cane crushed within 36 hours.

use serde_json::json;

use super::{
    Commodity,
    client::FrontDoorError,
    scene::{Scene, fields, gtin, lot, place, sscc},
    sensors::Sample,
};

const CANE: u32 = 10;
const SUGAR: u32 = 11;
const BAGASSE: u32 = 12;
const MOLASSES: u32 = 13;
const MUD: u32 = 14;
const RETAIL: u32 = 15;
const MILL: u32 = 100;
const DEPOT: u32 = 101;
const PACKER: u32 = 102;
const SHOP: u32 = 103;
const CARRIER: u32 = 104;
const FARMS: u32 = 110;

/// One ticket: farmer, plot, variety, day and hour of cutting, estimate, gross, tare in kg, trash %, Brix, pol, fibre.
struct Ticket {
    number: &'static str,
    farmer: &'static str,
    plot: &'static str,
    variety: &'static str,
    day: i64,
    estimate: &'static str,
    weighed: [&'static str; 2],
    trash: &'static str,
    lab: [&'static str; 3],
    /// Net after tare and trash, as the form computes it.
    net: u32,
}

const TICKETS: [Ticket; 6] = [
    ticket(
        "T0001",
        "gan",
        "a1",
        "gt42",
        1,
        "21500",
        ["37840", "15620"],
        "3.1",
        ["19.8", "17.4", "12.8"],
        21_531,
    ),
    ticket(
        "T0002",
        "nong",
        "b1",
        "gt44",
        1,
        "18200",
        ["33460", "15080"],
        "2.4",
        ["20.3", "18.1", "12.5"],
        17_939,
    ),
    ticket(
        "T0003",
        "huang",
        "c1",
        "gt55",
        1,
        "24000",
        ["40120", "15900"],
        "3.8",
        ["19.1", "16.6", "13.2"],
        23_300,
    ),
    ticket(
        "T0004",
        "gan",
        "a2",
        "gt44",
        2,
        "19000",
        ["34980", "15620"],
        "2.9",
        ["20.6", "18.4", "12.4"],
        18_799,
    ),
    ticket(
        "T0005",
        "nong",
        "b1",
        "gt44",
        2,
        "22300",
        ["37920", "15080"],
        "3.3",
        ["20.1", "17.9", "12.7"],
        22_086,
    ),
    ticket(
        "T0006",
        "huang",
        "c1",
        "gt55",
        2,
        "20500",
        ["36740", "15900"],
        "4.0",
        ["19.4", "16.9", "13.0"],
        20_006,
    ),
];

#[expect(clippy::too_many_arguments, reason = "a line of the table above, in its order")]
const fn ticket(
    number: &'static str,
    farmer: &'static str,
    plot: &'static str,
    variety: &'static str,
    day: i64,
    estimate: &'static str,
    weighed: [&'static str; 2],
    trash: &'static str,
    lab: [&'static str; 3],
    net: u32,
) -> Ticket {
    Ticket { number, farmer, plot, variety, day, estimate, weighed, trash, lab, net }
}

fn farm(farmer: &str) -> u32 {
    FARMS
        + match farmer {
            "gan" => 0,
            "nong" => 1,
            _ => 2,
        }
}

pub async fn play(scene: &mut Scene) -> Result<Commodity, FrontDoorError> {
    register(scene).await?;
    let weighbridge = scene.device("guitang", "bridge1", ("sugar", "weighbridge", "weighbridge")).await?;
    let lab = scene.device("guitang", "lab1", ("sugar", "lab", "lab")).await?;
    for ticket in &TICKETS {
        harvest_and_haul(scene, ticket).await?;
        let at = scene.at(ticket.day, 16, 0).timestamp();
        let [gross, tare] = ticket.weighed;
        let sample = |name: &str, unit, text: &str| Sample {
            name: name.to_owned(),
            unit,
            at,
            value: text.parse().unwrap_or_default(),
        };
        scene.publish(&weighbridge, &[sample("gross", "kg", gross), sample("tare", "kg", tare)]).await?;
        let [brix, pol, _] = ticket.lab;
        scene.publish(&lab, &[sample("brix", "%", brix), sample("pol", "%", pol)]).await?;
        weigh_and_test(scene, ticket).await?;
    }
    rejected_load(scene).await?;
    crush(scene).await?;
    quality(scene).await?;
    distribute(scene).await?;
    store_conditions(scene).await?;
    repack_and_sell(scene).await
}

async fn register(scene: &mut Scene) -> Result<(), FrontDoorError> {
    scene.organisation("guitang", "mill", "左江制糖有限公司（演示）", MILL).await?;
    scene.organisation("nanning", "depot", "南宁糖业储备库（演示）", DEPOT).await?;
    scene.organisation("tianwei", "packer", "甜味食品分装厂（演示）", PACKER).await?;
    scene.organisation("xiaodian", "retailer", "街角小店（演示）", SHOP).await?;
    scene.organisation("yunda", "carrier", "桂运物流（演示）", CARRIER).await?;
    for (slug, kind, name) in [
        ("mill", "mill", "压榨车间"),
        ("weighbridge", "weighbridge", "1号地磅"),
        ("lab", "lab", "化验室"),
        ("bin1", "bin", "糖仓1号位"),
    ] {
        scene.place("guitang", slug, (kind, name), MILL).await?;
    }
    scene.place("yunda", "gps", ("warehouse", "在途定位"), CARRIER).await?;
    scene.place("nanning", "store", ("warehouse", "1号库"), DEPOT).await?;
    scene.place("tianwei", "hall", ("warehouse", "分装车间"), PACKER).await?;
    scene.place("xiaodian", "shop", ("shop", "街角小店"), SHOP).await?;
    for (slug, name) in [("gan", "甘桂生"), ("nong", "农秀兰"), ("huang", "黄国强")] {
        scene.person(slug, "farmer", name, "广西扶绥县").await?;
    }
    for (farmer, plot, name, west, south) in [
        ("gan", "a1", "大坡岭", 107.901_2, 22.634_1),
        ("gan", "a2", "水塘边", 107.905_6, 22.637_8),
        ("nong", "b1", "龙头坡", 107.934_5, 22.601_2),
        ("huang", "c1", "那禾", 107.872_3, 22.655_4),
    ] {
        let (east, north) = (west + 0.002_1, south + 0.001_4);
        let polygon = [[west, south], [east, south], [east, north], [west, north], [west, south]];
        scene.plot(farmer, plot, ("plot", name, "广西扶绥县"), (farm(farmer), &polygon)).await?;
    }
    for (item, product, name) in [
        (CANE, "cane", "糖料蔗"),
        (SUGAR, "sugar", "白砂糖 50kg"),
        (BAGASSE, "bagasse", "蔗渣"),
        (MOLASSES, "molasses", "糖蜜"),
        (MUD, "filter-mud", "滤泥"),
    ] {
        scene.item("guitang", item, ("sugar", product), name).await?;
    }
    scene.pack("tianwei", RETAIL, ("sugar", "retail-sugar"), "白砂糖 500g", ("500", "GRM")).await
}

async fn harvest_and_haul(scene: &mut Scene, ticket: &Ticket) -> Result<(), FrontDoorError> {
    let Ticket { number, farmer, plot, day, .. } = ticket;
    let (mill, plot) = (scene.iss("guitang")?, place(farm(farmer), plot));
    let (start, end) = (scene.moment(*day, 6, 0), scene.moment(*day, 11, 30));
    let mut form = fields(&[
        ("plot", &plot),
        ("buyer", &mill),
        ("lot", number),
        ("variety", ticket.variety),
        ("method", "manual"),
        ("cut-start", &start),
        ("cut-end", &end),
    ]);
    form.extend(fields(&[("estimate", ticket.estimate)]));
    let at = scene.moment(*day, 12, 0);
    scene.step(farmer, ("sugar", "harvest", number), at, form).await?;
    haul(scene, farmer, &plot, (*number, *day, ticket.estimate)).await
}

async fn haul(
    scene: &mut Scene,
    farmer: &str,
    plot: &str,
    (number, day, weight): (&str, i64, &str),
) -> Result<(), FrontDoorError> {
    let mill = scene.iss("guitang")?;
    let load = format!("load:{}", lot(CANE, number));
    let form = fields(&[
        ("consignment", number),
        (&load, weight),
        ("from", plot),
        ("to", &mill),
        ("to-place", &place(MILL, "weighbridge")),
        ("truck", "桂F·演示01"),
        ("driver", "李师傅"),
    ]);
    let at = scene.moment(day, 13, 0);
    scene.step(farmer, ("sugar", "haul", number), at, form).await?;
    Ok(())
}

async fn weigh_and_test(scene: &mut Scene, ticket: &Ticket) -> Result<(), FrontDoorError> {
    let Ticket { number, farmer, day, .. } = ticket;
    let ([gross, tare], [brix, pol, fibre]) = (ticket.weighed, ticket.lab);
    let consignment = scene.document(farmer, number)?;
    let slip = format!("BD-{number}");
    let form = fields(&[
        ("consignment", &consignment),
        ("place", &place(MILL, "weighbridge")),
        ("gross", gross),
        ("tare", tare),
        ("trash", ticket.trash),
        ("ticket", &slip),
    ]);
    let at = scene.moment(*day, 16, 0);
    scene.step("guitang", ("sugar", "weigh", number), at, form).await?;
    let cane = lot(CANE, number);
    let form = fields(&[
        ("lot", &cane),
        ("place", &place(MILL, "lab")),
        ("brix", brix),
        ("pol", pol),
        ("fibre", fibre),
    ]);
    let at = scene.moment(*day, 16, 30);
    scene.step("guitang", ("sugar", "lab", number), at, form).await?;
    Ok(())
}

/// A seventh load: cut, driven, and sent back at the gate.
async fn rejected_load(scene: &mut Scene) -> Result<(), FrontDoorError> {
    let (mill, plot) = (scene.iss("guitang")?, place(farm("huang"), "c1"));
    let form = fields(&[
        ("plot", &plot),
        ("buyer", &mill),
        ("lot", "T0007"),
        ("variety", "gt55"),
        ("method", "machine"),
        ("estimate", "17600"),
    ]);
    let at = scene.moment(2, 12, 30);
    scene.step("huang", ("sugar", "harvest", "T0007"), at, form).await?;
    haul(scene, "huang", &plot, ("T0007", 2, "17600")).await?;
    let consignment = scene.document("huang", "T0007")?;
    let form = fields(&[
        ("consignment", &consignment),
        ("place", &place(MILL, "weighbridge")),
        ("reason", "trash"),
        ("remark", "夹杂物目测超过 15 %"),
    ]);
    let at = scene.moment(2, 17, 0);
    scene.step("guitang", ("sugar", "reject", "T0007"), at, form).await?;
    Ok(())
}

/// Two shifts, each of the day's three tickets; a third shift claims more sugar than cane can hold and is refused.
async fn crush(scene: &mut Scene) -> Result<(), FrontDoorError> {
    for (day, shift, sugar, bagasse, molasses, mud) in
        [(1, "S1101A", "8050", "15700", "1900", "2100"), (2, "S1102A", "7860", "15200", "1850", "2050")]
    {
        let mut form = fields(&[
            ("shift", shift),
            ("place", &place(MILL, "mill")),
            ("sugar", shift),
            ("sugar-kg", sugar),
            ("bagasse", shift),
            ("bagasse-kg", bagasse),
            ("molasses", shift),
            ("molasses-kg", molasses),
            ("mud", shift),
            ("mud-kg", mud),
            ("extraction", "96.2"),
        ]);
        for ticket in TICKETS.iter().filter(|ticket| ticket.day == day) {
            form.push((format!("cane:{}", lot(CANE, ticket.number)), ticket.net.to_string()));
        }
        let at = scene.moment(day, 22, 0);
        // The cane is used up once the shift is in, so the claim is made before it.
        let boast = form.iter().map(|(name, text)| {
            let text = if name == "sugar-kg" { "15000" } else { text };
            (name.clone(), text.to_owned())
        });
        let boast = boast.collect();
        if day == 1 {
            let item = ("sugar", "crush", "boast");
            scene.refused_step("guitang", item, (at.clone(), "over-yield"), boast).await?;
        }
        scene.step("guitang", ("sugar", "crush", shift), at, form).await?;
    }
    Ok(())
}

async fn quality(scene: &mut Scene) -> Result<(), FrontDoorError> {
    let form = fields(&[
        ("lot", &lot(SUGAR, "S1101A")),
        ("place", &place(MILL, "lab")),
        ("report", "QC-S1101A"),
        ("grade", "first"),
        ("result", "conformant"),
        ("sucrose", "99.72"),
        ("reducing", "0.06"),
        ("ash", "0.05"),
        ("moisture", "0.05"),
        ("colour", "128"),
        ("turbidity", "95"),
        ("insolubles", "18"),
        ("so2", "12"),
    ]);
    let at = scene.moment(3, 10, 0);
    scene.step("guitang", ("sugar", "inspect", "S1101A"), at, form).await?;
    Ok(())
}

/// Bags, a pallet, the mill's bin, the lorry and the depot; the carrier's own system reports the trip as EPCIS.
async fn distribute(scene: &mut Scene) -> Result<(), FrontDoorError> {
    let sugar = lot(SUGAR, "S1101A");
    let form = fields(&[("lot", &sugar), ("pieces", "161"), ("place", &place(MILL, "mill"))]);
    let at = scene.moment(3, 12, 0);
    scene.step("guitang", ("sugar", "bag", "S1101A"), at, form).await?;
    let load = format!("load:{sugar}");
    let form = fields(&[("pallet", &sscc(1)), (&load, "1000"), ("place", &place(MILL, "mill"))]);
    let at = scene.moment(3, 13, 0);
    scene.step("guitang", ("sugar", "palletise", "P1"), at, form).await?;
    let (depot, from) = (scene.iss("nanning")?, place(MILL, "mill"));
    let form = fields(&[
        ("consignment", "FH-0001"),
        (&load, "6000"),
        ("from", &from),
        ("to", &depot),
        ("to-place", &place(DEPOT, "store")),
        ("truck", "桂A·演示88"),
        ("seal", "GX778812"),
    ]);
    let at = scene.moment(4, 8, 0);
    scene.step("guitang", ("sugar", "ship", "FH-0001"), at, form).await?;
    report_trip(scene, &sugar).await?;
    let consignment = scene.document("guitang", "FH-0001")?;
    let form =
        fields(&[("consignment", &consignment), ("place", &place(DEPOT, "store")), ("receipt", "SH-0001")]);
    let at = scene.moment(4, 15, 0);
    scene.step("nanning", ("sugar", "receive", "FH-0001"), at, form).await?;
    Ok(())
}

async fn report_trip(scene: &mut Scene, sugar: &str) -> Result<(), FrontDoorError> {
    let token = scene.program("yunda", "capture").await?;
    let event = |item: &str, step: &str, at: String| {
        json!({
            "type": "ObjectEvent", "action": "OBSERVE", "bizStep": step, "disposition": "in_transit",
            "eventID": format!("urn:uuid:{}", scene.jti(item)), "eventTime": at, "eventTimeZoneOffset": "+08:00",
            // As the carrier's system writes it: a class URN, which the server turns into a Digital Link.
            "quantityList": [{"epcClass": format!("urn:epc:class:lgtin:9521234.0{:05}.S1101A", SUGAR), "quantity": 6000, "uom": "KGM"}],
            "readPoint": {"id": place(CARRIER, "gps")},
        })
    };
    // The tracker rides on the lorry from loading to arrival (EPCIS 2.0 §7.4.6).
    let tracker = |item: &str, action: &str, step: &str, at: String| {
        json!({
            "type": "AssociationEvent", "action": action, "bizStep": step,
            "eventID": format!("urn:uuid:{}", scene.jti(item)), "eventTime": at, "eventTimeZoneOffset": "+08:00",
            "parentID": "urn:epc:id:giai:9521234.TRUCK01", "childEPCs": ["urn:epc:id:giai:9521234.TRACKER07"],
            "readPoint": {"id": place(CARRIER, "gps")},
        })
    };
    let document = json!({
        "@context": ["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"],
        "type": "EPCISDocument", "schemaVersion": "2.0", "creationDate": scene.moment(4, 14, 0),
        "epcisBody": {"eventList": [
            tracker("trip/tracker-on", "ADD", "loading", scene.moment(4, 8, 0)),
            event("trip/departing", "departing", scene.moment(4, 8, 30)),
            event("trip/arriving", "arriving", scene.moment(4, 14, 0)),
            tracker("trip/tracker-off", "DELETE", "unloading", scene.moment(4, 14, 30)),
        ]},
    });
    tracing::debug!(lot = sugar, "the carrier reports its trip");
    scene.capture(&token, &document).await
}

/// A day in the depot: late November in Nanning, about 15 to 23 °C (China Meteorological Administration's normals).
async fn store_conditions(scene: &mut Scene) -> Result<(), FrontDoorError> {
    let device = scene.device("nanning", "th1", ("sugar", "climate", "store")).await?;
    let now = scene.began().timestamp();
    let mut samples = Vec::new();
    for (step, (temperature, humidity)) in [
        (15.8, 61.0),
        (15.2, 62.5),
        (16.9, 60.1),
        (20.4, 55.7),
        (22.8, 52.3),
        (21.6, 54.0),
        (18.9, 57.8),
        (17.1, 59.9),
    ]
    .into_iter()
    .enumerate()
    {
        let at = now - 3_600 * (24 - 3 * i64::try_from(step).unwrap_or_default());
        samples.push(Sample { name: "temp".to_owned(), unit: "Cel", at, value: temperature });
        samples.push(Sample { name: "rh".to_owned(), unit: "%RH", at, value: humidity });
    }
    scene.publish(&device, &samples).await
}

async fn repack_and_sell(scene: &mut Scene) -> Result<Commodity, FrontDoorError> {
    let (sugar, packer, shop) = (lot(SUGAR, "S1101A"), scene.iss("tianwei")?, scene.iss("xiaodian")?);
    let load = format!("load:{sugar}");
    let (store, hall) = (place(DEPOT, "store"), place(PACKER, "hall"));
    let form = fields(&[
        ("consignment", "CK-0001"),
        (&load, "2000"),
        ("from", &store),
        ("to", &packer),
        ("to-place", &hall),
    ]);
    let at = scene.moment(5, 9, 0);
    scene.step("nanning", ("sugar", "ship", "CK-0001"), at, form).await?;
    let consignment = scene.document("nanning", "CK-0001")?;
    let form = fields(&[("consignment", &consignment), ("place", &hall)]);
    let at = scene.moment(5, 14, 0);
    scene.step("tianwei", ("sugar", "receive", "CK-0001"), at, form).await?;
    let (used, best) = (format!("sugar:{sugar}"), scene.date(10 + 540));
    let form = fields(&[
        (&used, "1000"),
        ("lot", "R2601"),
        ("pieces", "2000"),
        ("place", &hall),
        ("best-before", &best),
        ("pack-kg", "0.5"),
    ]);
    let at = scene.moment(6, 9, 0);
    scene.step("tianwei", ("sugar", "repack", "R2601"), at, form).await?;
    let retail = lot(RETAIL, "R2601");
    let form = fields(&[("lot", &retail), ("pieces", "2000"), ("place", &hall)]);
    let at = scene.moment(6, 10, 0);
    let coded_by = scene.step("tianwei", ("sugar", "label", "R2601"), at, form).await?;
    let load = format!("load:{retail}");
    let form = fields(&[("consignment", "LS-0001"), (&load, "200"), ("from", &hall), ("to", &shop)]);
    let at = scene.moment(7, 8, 0);
    scene.step("tianwei", ("sugar", "ship", "LS-0001"), at, form).await?;
    let consignment = scene.document("tianwei", "LS-0001")?;
    let form = fields(&[("consignment", &consignment), ("place", &place(SHOP, "shop"))]);
    let at = scene.moment(7, 17, 0);
    scene.step("xiaodian", ("sugar", "receive", "LS-0001"), at, form).await?;
    let form =
        fields(&[("lot", &retail), ("pieces", "12"), ("place", &place(SHOP, "shop")), ("reason", "sold")]);
    let at = scene.moment(8, 20, 0);
    scene.step("xiaodian", ("sugar", "sell", "R2601"), at, form).await?;
    Ok(Commodity { name: "sugar", lot_path: format!("/01/{}/10/R2601", gtin(RETAIL)), coded_by })
}
