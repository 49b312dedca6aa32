//! Paddy to rice in Wuming, Nanning: G1–G9, one bin as storage epochs, a hot spot, a ventilation and a fumigation.
//!
//! Late indica rice of Guangxi is cut in November at 22 to 26 % moisture and bought at no more than 13.5 % (GB 1350); mills
//! get 65 to 70 % of it as rice. Grain warmer than its surroundings by itself is heating (LS/T 1203).

use super::{
    Commodity,
    client::FrontDoorError,
    scene::{Scene, fields, gtin, lot, place, sscc},
    sensors::{Device, Sample},
};

const WET: u32 = 30;
const PADDY: u32 = 31;
const RICE: u32 = 32;
const BROKEN: u32 = 33;
const BRAN: u32 = 34;
const HUSK: u32 = 35;
const BAGS: u32 = 36;
const DEPOT: u32 = 130;
const MILL: u32 = 131;
const FARMS: u32 = 140;
const SHOP: u32 = 103;

struct Harvest {
    number: &'static str,
    farmer: &'static str,
    location: u32,
    plot: &'static str,
    day: i64,
    wet_kg: &'static str,
    moisture: &'static str,
    dry_kg: &'static str,
    weighed: [&'static str; 2],
    net_kg: &'static str,
}

const HARVESTS: [Harvest; 2] = [
    Harvest {
        number: "W0001",
        farmer: "wei",
        location: FARMS,
        plot: "p1",
        day: 1,
        wet_kg: "10000",
        moisture: "24.0",
        dry_kg: "8700",
        weighed: ["15980", "7300"],
        net_kg: "8680",
    },
    Harvest {
        number: "W0002",
        farmer: "lu",
        location: FARMS + 1,
        plot: "p2",
        day: 2,
        wet_kg: "13600",
        moisture: "22.8",
        dry_kg: "12050",
        weighed: ["19340", "7310"],
        net_kg: "12030",
    },
];

pub async fn play(scene: &mut Scene) -> Result<Commodity, FrontDoorError> {
    register(scene).await?;
    for harvest in &HARVESTS {
        from_field_to_bin(scene, harvest).await?;
    }
    let epoch = scene.newest_epoch("wuming", &lot(PADDY, "W0002")).await?;
    fumigate(scene, &epoch).await?;
    stored_and_counted(scene, &epoch).await?;
    mill(scene, &epoch).await?;
    hot_spot(scene, &epoch).await?;
    to_the_shop(scene).await
}

async fn register(scene: &mut Scene) -> Result<(), FrontDoorError> {
    scene.organisation("wuming", "depot", "武鸣粮食储备库（演示）", DEPOT).await?;
    scene.organisation("taoyuan", "mill", "桃源米业（演示）", MILL).await?;
    scene.place("wuming", "gate", ("depot", "武鸣库点"), DEPOT).await?;
    scene.place("wuming", "b01", ("bin", "1号廒间"), DEPOT).await?;
    scene.place("taoyuan", "line", ("mill", "碾米车间"), MILL).await?;
    for (slug, name, plot, location, west) in
        [("wei", "韦志明", "p1", FARMS, 108.271_5), ("lu", "陆美英", "p2", FARMS + 1, 108.288_2)]
    {
        scene.person(slug, "farmer", name, "广西南宁市武鸣区").await?;
        let (south, east, north) = (23.158_3, west + 0.001_8, 23.159_5);
        let polygon = [[west, south], [east, south], [east, north], [west, north], [west, south]];
        scene.plot(slug, plot, ("plot", "水田", "广西南宁市武鸣区"), (location, &polygon)).await?;
    }
    scene.item("wuming", WET, ("grain", "wet-paddy"), "湿稻谷").await?;
    scene.item("wuming", PADDY, ("grain", "paddy"), "晚籼稻谷").await?;
    for (item, product, name) in
        [(RICE, "rice", "大米"), (BROKEN, "broken", "碎米"), (BRAN, "bran", "米糠"), (HUSK, "husk", "稻壳")]
    {
        scene.item("taoyuan", item, ("grain", product), name).await?;
    }
    scene.pack("taoyuan", BAGS, ("grain", "retail-rice"), "大米 5kg", ("5", "KGM")).await
}

async fn from_field_to_bin(scene: &mut Scene, harvest: &Harvest) -> Result<(), FrontDoorError> {
    let Harvest { number, farmer, day, .. } = harvest;
    let (depot, plot) = (scene.iss("wuming")?, place(harvest.location, harvest.plot));
    let form = fields(&[
        ("plot", &plot),
        ("buyer", &depot),
        ("lot", number),
        ("variety", "yexiangyou"),
        ("season", "late-indica"),
        ("moisture", harvest.moisture),
        ("weight", harvest.wet_kg),
    ]);
    let at = scene.moment(*day, 9, 0);
    scene.step(farmer, ("grain", "harvest", number), at, form).await?;
    let wet = format!("wet:{}", lot(WET, number));
    let form = fields(&[
        (&wet, harvest.wet_kg),
        ("buyer", &depot),
        ("lot", number),
        ("weight", harvest.dry_kg),
        ("place", &plot),
        ("moisture-in", harvest.moisture),
        ("moisture-out", "13.2"),
        ("dryer", "循环式烘干机"),
    ]);
    let at = scene.moment(*day, 18, 0);
    scene.step(farmer, ("grain", "dry", number), at, form).await?;
    let (paddy, gate) = (lot(PADDY, number), place(DEPOT, "gate"));
    let load = format!("load:{paddy}");
    let form = fields(&[
        ("consignment", number),
        (&load, harvest.dry_kg),
        ("from", &plot),
        ("to", &depot),
        ("to-place", &gate),
    ]);
    let at = scene.moment(*day, 19, 0);
    scene.step(farmer, ("grain", "deliver", number), at, form).await?;
    purchase(scene, harvest).await?;
    let form = fields(&[("lot", &paddy), ("quantity", harvest.net_kg), ("bin", &place(DEPOT, "b01"))]);
    let at = scene.moment(*day, 22, 0);
    scene.step("wuming", ("grain", "store", number), at, form).await?;
    Ok(())
}

async fn purchase(scene: &mut Scene, harvest: &Harvest) -> Result<(), FrontDoorError> {
    let consignment = scene.document(harvest.farmer, harvest.number)?;
    let ([gross, tare], sample) = (harvest.weighed, format!("QY-{}", harvest.number));
    let slip = format!("BD-{}", harvest.number);
    let form = fields(&[
        ("consignment", &consignment),
        ("place", &place(DEPOT, "gate")),
        ("gross", gross),
        ("tare", tare),
        ("kind", "indica"),
        ("sample", &sample),
        ("moisture", "13.2"),
        ("impurity", "0.8"),
        ("brown-yield", "78.6"),
        ("head-yield", "52.4"),
        ("yellow", "0.2"),
        ("cadmium", "0.06"),
        ("grade", "2"),
        ("ticket", &slip),
        ("price", "2.68"),
    ]);
    let at = scene.moment(harvest.day, 20, 30);
    scene.step("wuming", ("grain", "purchase", harvest.number), at, form).await?;
    Ok(())
}

/// What one point of the grid reads as it heats, by hours before now: past 30 °C the profile raises an alert.
const HEATING: [(i64, f64); 3] = [(12, 24.8), (9, 28.9), (6, 32.6)];
/// And as dry, cool air is blown through: below 26 °C the alert clears.
const COOLING: [(i64, f64); 2] = [(3, 27.1), (1, 24.3)];

/// In what is left one point heats: the alert is raised, and the ventilation clears it.
async fn hot_spot(scene: &mut Scene, epoch: &str) -> Result<(), FrontDoorError> {
    let probe = scene.device("wuming", "probe1", ("grain", "probe", "b01")).await?;
    let since = scene.moment(9, 0, 0);
    let day = since.get(..10).unwrap_or_default();
    let layout = [
        ("from", day),
        ("rows", "3"),
        ("columns", "3"),
        ("layers", "3"),
        ("row_m", "4.5"),
        ("column_m", "4.5"),
        ("layer_m", "1.8"),
    ];
    scene.declare_grid("wuming", "b01", &fields(&layout)).await?;
    temperatures(scene, &probe, &HEATING).await?;
    // Played again, it was cleared long ago.
    if scene.alerts("wuming", "hot-spot").await? == (0, 0) {
        return Err(FrontDoorError::Answer { what: "the depot's alerts".to_owned(), member: "the hot spot" });
    }
    temperatures(scene, &probe, &COOLING).await?;
    let (open, cleared) = scene.alerts("wuming", "hot-spot").await?;
    if open > 0 || cleared == 0 {
        let what = format!("the depot's alerts, {open} open and {cleared} cleared,");
        return Err(FrontDoorError::Answer { what, member: "the end of the hot spot" });
    }
    ventilated(scene, epoch).await
}

/// Scans of the grid: nine cables of three points, each scan one message and so one pack.
async fn temperatures(scene: &Scene, probe: &Device, hot_spot: &[(i64, f64)]) -> Result<(), FrontDoorError> {
    let now = scene.began().timestamp();
    for (hours_ago, hot) in hot_spot {
        let at = now - 3_600 * hours_ago;
        let grid = (0..27_i32).map(|point| {
            let (cable, depth) = (point / 3 + 1, point % 3 + 1);
            let value = if (cable, depth) == (5, 2) { *hot } else { 20.5 + f64::from(point % 7) * 0.4 };
            Sample { name: format!("c{cable}/d{depth}/temp"), unit: "Cel", at, value }
        });
        scene.publish(probe, &grid.collect::<Vec<_>>()).await?;
    }
    Ok(())
}

async fn ventilated(scene: &mut Scene, epoch: &str) -> Result<(), FrontDoorError> {
    let (start, end) = (scene.hours_ago(5), scene.hours_ago(1));
    let form = fields(&[
        ("lot", epoch),
        ("bin", &place(DEPOT, "b01")),
        ("start", &start),
        ("end", &end),
        ("temp-before", "32.6"),
        ("temp-after", "24.3"),
        ("operator", "黄保管"),
    ]);
    scene.step("wuming", ("grain", "ventilate", "b01"), end, form).await?;
    Ok(())
}

async fn fumigate(scene: &mut Scene, epoch: &str) -> Result<(), FrontDoorError> {
    let bin = place(DEPOT, "b01");
    let form = fields(&[
        ("lot", epoch),
        ("bin", &bin),
        ("pests", "6"),
        ("temperature", "24.1"),
        ("moisture", "13.1"),
    ]);
    let at = scene.moment(3, 9, 0);
    scene.step("wuming", ("grain", "inspect", "b01"), at, form).await?;
    let (start, end) = (scene.moment(3, 10, 0), scene.moment(3, 23, 0));
    let form = fields(&[
        ("lot", epoch),
        ("bin", &bin),
        ("start", &start),
        ("end", &end),
        ("agent", "phosphine"),
        ("dose", "3"),
        ("concentration", "310"),
        ("operator", "黄保管"),
    ]);
    scene.step("wuming", ("grain", "fumigate", "b01"), end, form).await?;
    let form = fields(&[("lot", epoch), ("bin", &bin), ("clearance", "0.05"), ("operator", "黄保管")]);
    let at = scene.moment(8, 9, 0);
    scene.step("wuming", ("grain", "clear", "b01"), at, form).await?;
    Ok(())
}

async fn stored_and_counted(scene: &mut Scene, epoch: &str) -> Result<(), FrontDoorError> {
    let bin = place(DEPOT, "b01");
    let form = fields(&[
        ("lot", epoch),
        ("bin", &bin),
        ("report", "CC-b01"),
        ("kind", "indica"),
        ("result", "conformant"),
        ("fatty-acid", "18.6"),
        ("taste", "78"),
    ]);
    let at = scene.moment(9, 21, 0);
    scene.step("wuming", ("grain", "quality", "b01"), at, form).await?;
    let form = fields(&[
        ("lot", epoch),
        ("loss", "32"),
        ("bin", &bin),
        ("book", "20710"),
        ("measured", "20678"),
        ("reason", "moisture"),
    ]);
    let at = scene.moment(9, 22, 0);
    scene.step("wuming", ("grain", "stock-take", "b01"), at, form).await?;
    Ok(())
}

async fn mill(scene: &mut Scene, epoch: &str) -> Result<(), FrontDoorError> {
    let (mill, line) = (scene.iss("taoyuan")?, place(MILL, "line"));
    let load = format!("load:{epoch}");
    let form = fields(&[
        ("consignment", "CK-1"),
        (&load, "15000"),
        ("from", &place(DEPOT, "b01")),
        ("to", &mill),
        ("to-place", &line),
    ]);
    let at = scene.moment(10, 6, 0);
    scene.step("wuming", ("grain", "ship", "CK-1"), at, form).await?;
    let form = fields(&[("consignment", &scene.document("wuming", "CK-1")?), ("place", &line)]);
    let at = scene.moment(10, 9, 0);
    scene.step("taoyuan", ("grain", "receive", "CK-1"), at, form).await?;
    let used = format!("paddy:{epoch}");
    let form = fields(&[
        ("run", "JG-1"),
        ("place", &line),
        (&used, "15000"),
        ("rice", "M1"),
        ("rice-kg", "9900"),
        ("broken", "M1"),
        ("broken-kg", "620"),
        ("bran", "M1"),
        ("bran-kg", "1380"),
        ("husk", "M1"),
        ("husk-kg", "3000"),
        ("grade", "first"),
    ]);
    let at = scene.moment(10, 15, 0);
    scene.step("taoyuan", ("grain", "mill", "M1"), at, form).await?;
    Ok(())
}

async fn to_the_shop(scene: &mut Scene) -> Result<Commodity, FrontDoorError> {
    let (line, shelf, shop) = (place(MILL, "line"), place(SHOP, "shop"), scene.iss("xiaodian")?);
    let (used, best) = (format!("rice:{}", lot(RICE, "M1")), scene.date(10 + 365));
    let form = fields(&[
        (&used, "9000"),
        ("lot", "B1"),
        ("pieces", "1800"),
        ("place", &line),
        ("best-before", &best),
        ("pack-kg", "5"),
    ]);
    let at = scene.moment(10, 16, 0);
    scene.step("taoyuan", ("grain", "bag", "B1"), at, form).await?;
    let bags = lot(BAGS, "B1");
    let form = fields(&[("lot", &bags), ("pieces", "1800"), ("place", &line)]);
    let at = scene.moment(10, 16, 30);
    let coded_by = scene.step("taoyuan", ("grain", "label", "B1"), at, form).await?;
    let load = format!("load:{bags}");
    let form = fields(&[("pallet", &sscc(2)), (&load, "160"), ("place", &line)]);
    let at = scene.moment(10, 17, 0);
    scene.step("taoyuan", ("grain", "palletise", "P2"), at, form).await?;
    let form = fields(&[
        ("consignment", "LS-1"),
        (&load, "100"),
        ("from", &line),
        ("to", &shop),
        ("to-place", &shelf),
    ]);
    let at = scene.moment(10, 18, 0);
    scene.step("taoyuan", ("grain", "ship", "LS-1"), at, form).await?;
    let form = fields(&[("consignment", &scene.document("taoyuan", "LS-1")?), ("place", &shelf)]);
    let at = scene.moment(10, 20, 0);
    scene.step("xiaodian", ("grain", "receive", "LS-1"), at, form).await?;
    let form = fields(&[("lot", &bags), ("pieces", "3"), ("place", &shelf), ("reason", "sold")]);
    let at = scene.moment(10, 21, 0);
    scene.step("xiaodian", ("grain", "sell", "B1"), at, form).await?;
    Ok(Commodity { name: "grain", lot_path: format!("/01/{}/10/B1", gtin(BAGS)), coded_by })
}
