//! A depot, a farmer with a plot and the farmer's harvest, in a house of the test's own.

use std::sync::Arc;

use actix_web::{
    App, HttpServer,
    dev::ServerHandle,
    http::{StatusCode, header},
    middleware::{Compress, from_fn},
    test,
    web::Data,
};
use serde_json::json;
use server::{
    app::AppState,
    jobs::{roster, sequencer::Sequencer},
    service::{
        account::NewAccount,
        capture::{Capture, Request},
        registry::Registry,
    },
};
use store::party::{self, Party};
use trace::gs1::check_digit;
use uuid::Uuid;

use crate::{database, house};

pub struct Farm {
    pub state: Data<AppState>,
    pub sequencer: Sequencer,
}

fn with_check_digit(body: &str) -> String {
    format!("{body}{}", check_digit(body).unwrap())
}

/// The depot's item for what farmers bring.
pub fn gtin() -> String {
    format!("0{}", with_check_digit("952123400030"))
}

pub fn gln(location: u32) -> String {
    with_check_digit(&format!("9521234{location:05}"))
}

impl Farm {
    pub async fn open(name: &str) -> Option<Self> {
        Some(Self::begin(house::state(&database::fresh(name).await?).await).await)
    }

    /// Everybody and everything is registered in an empty house.
    pub async fn begin(state: Data<AppState>) -> Self {
        state.ledger.set_halt(None);
        let sequencer = Sequencer::lead(Arc::clone(&state.ledger)).await.unwrap().unwrap();
        let farm = Self { state, sequencer };
        let registry = farm.registry();
        registry.found("operator", "Operator", &gln(100)).await.unwrap();
        for (slug, role, natural, location) in [
            ("depot", "depot", false, 130),
            ("wei", "farmer", true, 0),
            ("authority", "regulator", false, 150),
        ] {
            let pgln = (!natural).then(|| gln(location));
            let stated = json!({"slug": slug, "role": role, "name": slug, "natural": natural, "pgln": pgln,
                "company_prefix": "9521234"});
            registry.party(&serde_json::from_value(stated).unwrap()).await.unwrap();
        }
        let plot = json!({"party": "wei", "slug": "p1", "kind": "plot", "name": "p1", "gln": gln(140),
            "extension": "p1", "polygon": [[108.2, 23.1], [108.3, 23.1], [108.3, 23.2], [108.2, 23.1]]});
        registry.place(&serde_json::from_value(plot).unwrap()).await.unwrap();
        let item = json!({"party": "depot", "gtin": gtin(), "profile": "grain", "product": "wet-paddy",
            "name": "wet paddy"});
        registry.trade_item(&serde_json::from_value(item).unwrap()).await.unwrap();
        farm
    }

    pub fn registry(&self) -> Registry<'_> {
        Registry {
            store: &self.state.store,
            keys: &self.state.keys,
            profiles: &self.state.profiles,
            gsrn_prefix: &self.state.config.identifiers.gsrn_prefix,
            documents: &self.state.documents,
        }
    }

    pub async fn party(&self, slug: &str) -> Party {
        let mut conn = self.state.store.connection().await.unwrap();
        party::by_slug(&mut conn, slug).await.unwrap().unwrap()
    }

    /// The cookie of somebody of the party.
    pub async fn sign_in(&self, slug: &str) -> String {
        let party = self.party(slug).await;
        let (password, now) = ("a password that is long", chrono::Utc::now());
        let new = NewAccount {
            party_id: party.id,
            person_id: party.person_id,
            login: slug,
            password,
            roles: Vec::new(),
            locale: "en",
        };
        self.state.accounts.create(new).await.unwrap();
        format!("__Host-session={}", self.state.accounts.sign_in(slug, password, now).await.unwrap())
    }

    /// The farmer's harvest becomes the lot `number`.
    pub async fn harvest(&self, number: &str) -> Uuid {
        let farmer = self.party("wei").await;
        let profile = self.state.profiles.by_id("grain").unwrap();
        let capture = Capture {
            store: &self.state.store,
            keys: &self.state.keys,
            documents: &self.state.documents,
            serial_master: &self.state.serial_master,
            seen: None,
        };
        let step = profile.step("harvest").unwrap();
        let jti = Uuid::now_v7();
        let request = Request { party: &farmer, account: None, profile, step, jti, evidence: &[], own: None };
        capture.take(request, &self.harvest_form(number).await).await.unwrap();
        jti
    }

    /// What the farmer types.
    pub async fn harvest_form(&self, number: &str) -> Vec<(String, String)> {
        let fields = [
            ("plot", format!("https://id.gs1.org/414/{}/254/p1", gln(140))),
            ("buyer", self.party("depot").await.iss),
            ("lot", number.to_owned()),
            ("variety", "yexiangyou".to_owned()),
            ("season", "late-indica".to_owned()),
            ("moisture", "24.0".to_owned()),
            ("weight", "10000".to_owned()),
            ("at", chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// What waits gets its leaf.
    pub async fn log(&mut self) {
        self.sequencer.step().await.unwrap();
    }

    pub async fn log_roster(&mut self) {
        self.log().await;
        assert!(roster::step(&self.state.store, &self.state.ledger, &self.state.keys).await.unwrap());
        self.log().await;
    }

    pub async fn request(&self, request: test::TestRequest) -> (StatusCode, String) {
        let app = App::new()
            .app_data(self.state.clone())
            .wrap(from_fn(server::web::guard::guard))
            .configure(server::web::configure);
        let app = test::init_service(app).await;
        let answer = test::call_service(&app, request.to_request()).await;
        let status = answer.status();
        (status, String::from_utf8(test::read_body(answer).await.to_vec()).unwrap())
    }

    pub async fn get(&self, path: &str, accept: &str, cookie: &str) -> String {
        let request = test::TestRequest::get()
            .uri(path)
            .insert_header((header::ACCEPT, accept))
            .insert_header((header::ACCEPT_LANGUAGE, "zh-CN"))
            .insert_header((header::COOKIE, cookie));
        let (status, body) = self.request(request).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    pub async fn page(&self, path: &str, cookie: &str) -> String {
        self.get(path, "text/html", cookie).await
    }

    /// Listens as `suyuan serve` does, at a port of its own.
    pub fn listen(&self) -> (String, ServerHandle) {
        let state = self.state.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(state.clone())
                .wrap(from_fn(server::web::guard::guard))
                .wrap(Compress::default())
                .configure(server::web::configure)
        });
        let server = server.workers(2).disable_signals().bind(("127.0.0.1", 0)).unwrap();
        let address = format!("http://{}", server.addrs().first().unwrap());
        let running = server.run();
        let handle = running.handle();
        tokio::spawn(running);
        (address, handle)
    }
}
