//! A store's temperature grid: declared by its keeper, drawn from its scans, shown to nobody else.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says what it expects by failing")]

mod database;
mod registered;

use chrono::{DateTime, TimeDelta, Utc};
use registered::{party_of, place_of};
use server::service::{
    account::Member,
    grid::{self, GridError, GridForm, Look, Point},
};
use store::{Store, device, reading};

fn now() -> DateTime<Utc> {
    "2026-11-21T09:00:00Z".parse().unwrap()
}

struct World {
    store: Store,
    keeper: Member,
    neighbour: Member,
    device: i64,
}

async fn world() -> Option<World> {
    let url = database::fresh("grid").await?;
    let store = Store::open(&url, 4).unwrap();
    let mut conn = store.connection().await.unwrap();
    let depot = party_of(&mut conn, "depot", "depot", "9520123456788").await;
    let other = party_of(&mut conn, "other", "depot", "9520123456795").await;
    let place = place_of(&mut conn, &depot, "bin", "b01").await;
    let new = device::NewDevice {
        party_id: depot.id,
        name: "probe1",
        kind: "probe",
        profile: "grain",
        format: "senml+json",
        signing: "gateway",
        repeats: "merge",
        token_hash: &[0; 32],
        broker_hash: None,
        place_id: place.id,
        mapping: None,
    };
    let device = device::insert(&mut conn, &new).await.unwrap().id;
    drop(conn);
    let member = |party| Member {
        account_id: uuid::Uuid::now_v7(),
        person_id: None,
        party,
        roles: Vec::new(),
        locale: "en".to_owned(),
    };
    Some(World { store, keeper: member(depot), neighbour: member(other), device })
}

fn form() -> GridForm {
    let from = "2026-11-01".to_owned();
    GridForm { from, rows: 3, columns: 4, layers: 2, row_m: 4.5, column_m: 5.0, layer_m: 2.0 }
}

impl World {
    async fn declare(&self, form: &GridForm) -> Result<(), GridError> {
        grid::declare(&self.store, &self.keeper, "b01", form, now()).await
    }

    async fn look(&self, member: &Member, at: DateTime<Utc>) -> Result<Look, GridError> {
        grid::look(&self.store, member, ("depot", "b01"), at).await
    }

    /// One scan: 20 °C, but for what `hot` says of a cable and layer.
    async fn scan(&self, at: DateTime<Utc>, hot: (i16, i16, f64)) {
        let points = (1..=12_i16).flat_map(|cable| [1_i16, 2].map(|layer| (cable, layer)));
        let readings: Vec<reading::Reading> = points
            .map(|(cable, layer)| reading::Reading {
                device_id: self.device,
                at,
                name: format!("c{cable}/d{layer}/temp"),
                unit: "Cel".to_owned(),
                value: if (cable, layer) == (hot.0, hot.1) { hot.2 } else { 20.0 },
                cti: vec![1],
            })
            .collect();
        reading::insert(&mut self.store.connection().await.unwrap(), &readings.iter().collect::<Vec<_>>())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_is_refused_by_field_where_cables_hang_too_far_apart_and_changes_nothing() {
    let Some(world) = world().await else { return };
    for (form, refused) in [
        (GridForm { row_m: 5.01, ..form() }, "row_m"),
        (GridForm { column_m: f64::NAN, ..form() }, "column_m"),
        (GridForm { layer_m: 2.5, ..form() }, "layer_m"),
        (GridForm { rows: 0, ..form() }, "rows"),
        (GridForm { columns: 65, ..form() }, "columns"),
        (GridForm { layers: -1, ..form() }, "layers"),
        (GridForm { rows: 64, columns: 64, layers: 3, ..form() }, "layers"),
        (GridForm { from: "soon".to_owned(), ..form() }, "from"),
        (GridForm { from: "-4800-01-01".to_owned(), ..form() }, "from"),
        (GridForm { from: "2026-11-23".to_owned(), ..form() }, "from"),
    ] {
        let error = world.declare(&form).await.unwrap_err();
        let (GridError::Outside { field, .. } | GridError::Refused { field, .. }) = error else {
            panic!("{refused}: {error}")
        };
        assert_eq!(field, refused);
    }
    assert!(matches!(world.look(&world.keeper, now()).await.unwrap(), Look::Undeclared(_)));
    world.declare(&form()).await.unwrap();
    world.declare(&form()).await.unwrap();
    assert!(world.declare(&GridForm { rows: 2, ..form() }).await.is_err(), "two layouts from one day");
    assert!(matches!(world.look(&world.keeper, now()).await.unwrap(), Look::Unread(_)));
    let theirs = grid::declare(&world.store, &world.neighbour, "b01", &form(), now()).await;
    assert!(matches!(theirs, Err(GridError::Unknown)));
    assert!(matches!(world.look(&world.neighbour, now()).await, Err(GridError::Unknown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_names_the_hot_spot_its_rise_and_the_scans_around_it() {
    let Some(world) = world().await else { return };
    world.declare(&form()).await.unwrap();
    let day = TimeDelta::days(1);
    world.scan(now() - day * 2, (7, 2, 22.0)).await;
    world.scan(now() - day, (7, 2, 24.0)).await;
    world.scan(now(), (7, 2, 27.5)).await;
    let Look::Seen(seen) = world.look(&world.keeper, now()).await.unwrap() else { panic!("not seen") };
    let hot = Point { row: 2, column: 3, layer: 2 };
    assert_eq!(seen.hot_spot, Some((hot, 27.5)));
    assert_eq!(seen.rising, Some((hot, 3.5)));
    assert_eq!(seen.surface.map(|(point, _)| point.layer), Some(1));
    assert_eq!((seen.scan.at, seen.scan.silent), (now(), 0));
    assert_eq!((seen.before.len(), seen.after.len()), (2, 0));

    let Look::Seen(last) = world.look(&world.keeper, DateTime::<Utc>::MAX_UTC).await.unwrap() else {
        panic!("not seen")
    };
    assert_eq!(last.scan.at, now(), "no moment is too late to be asked for");
    let first = world.look(&world.keeper, DateTime::<Utc>::MIN_UTC).await.unwrap();
    assert!(matches!(first, Look::Undeclared(_)), "nor too early");

    let Look::Seen(middle) = world.look(&world.keeper, now() - day).await.unwrap() else {
        panic!("not seen")
    };
    assert_eq!((middle.before.len(), middle.after.clone()), (1, vec![now()]));
    assert_eq!(middle.rising, Some((hot, 2.0)));
    // A new layout leaves the old pictures as they were.
    let later = GridForm { from: "2026-11-21".to_owned(), rows: 2, columns: 2, ..form() };
    world.declare(&later).await.unwrap();
    let Look::Seen(old) = world.look(&world.keeper, now() - day).await.unwrap() else { panic!("not seen") };
    assert_eq!(old.scan.measured.len(), 24);
    let Look::Seen(new) = world.look(&world.keeper, now()).await.unwrap() else { panic!("not seen") };
    assert_eq!(new.scan.measured.len(), 8);
}
