//! A person's own key: enrolled from their browser, signing their own words, given up when the phone is lost.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::similar_names,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod database;
mod farm;
mod house;

use actix_web::{
    App,
    http::{StatusCode, header},
    middleware::from_fn,
    test::{self, TestRequest},
};
use farm::Farm;
use serde_json::{Value as Json, json};
use server::{
    service::fsck,
    web::{self, assets},
};
use store::{key, record};
use trace::{
    b64,
    bundle::{Bundle, Verdict, verify},
    hash::Hash,
    keys::SecretKey,
    tlog::{note::SignerKey, policy::Policy},
};
use uuid::Uuid;

const HARVEST: &str = "/work/grain/harvest";
const PASSWORD: &str = "a password that is long";

/// A browser with a key in it: what `static/sign.js` does, with the module's own code.
struct Phone {
    key: SecretKey,
    cookie: String,
    party: String,
}

type Form = Vec<(String, String)>;

impl Farm {
    async fn send(&self, path: &str, cookie: &str, form: &[(String, String)]) -> (StatusCode, String) {
        let request = TestRequest::post()
            .uri(path)
            .insert_header((header::COOKIE, cookie))
            .insert_header((header::ACCEPT, "text/html"))
            .insert_header((header::ACCEPT_LANGUAGE, "zh-CN"))
            .set_form(form);
        self.request(request).await
    }

    async fn header(&self, path: &str, cookie: &str, name: header::HeaderName) -> String {
        let app = App::new().app_data(self.state.clone()).wrap(from_fn(web::guard::guard));
        let app = test::init_service(app.configure(web::configure)).await;
        let request = TestRequest::get().uri(path).insert_header((header::COOKIE, cookie));
        let answer = test::call_service(&app, request.to_request()).await;
        answer.headers().get(name).unwrap().to_str().unwrap().to_owned()
    }

    /// As a reader has it who knows log and registrar, and asks for no witness.
    fn trust(&self) -> Policy {
        let verifier = SignerKey {
            name: "localhost/suyuan/2026".parse().unwrap(),
            secret: SecretKey::from_seed(&[4; 32]),
        };
        let registrar = self.state.keys.registrar().kid();
        format!("log {}\nquorum none\nregistrar {registrar}\n", verifier.verifier()).parse().unwrap()
    }

    async fn fsck(&self) -> fsck::Report {
        let database_url = self.state.config.database.database_url.clone();
        let ask = fsck::Ask { database_url, trust: self.trust(), threads: 2, ..fsck::Ask::default() };
        tokio::task::spawn_blocking(move || fsck::check(&ask, |_| {}).unwrap()).await.unwrap()
    }

    async fn phone(&self, cookie: &str, seed: u8) -> Phone {
        let party = self.party("wei").await.iss;
        Phone { key: SecretKey::from_seed(&[seed; 32]), cookie: cookie.to_owned(), party }
    }

    async fn enrolled_phone(&self, cookie: &str, seed: u8) -> Phone {
        let phone = self.phone(cookie, seed).await;
        let answer = phone.enrol(self, PASSWORD).await;
        assert_eq!(answer.0, StatusCode::SEE_OTHER, "{}", answer.1);
        phone
    }

    async fn record(&self, jti: Uuid) -> Option<record::Record> {
        record::by_jti(&mut self.state.store.connection().await.unwrap(), jti).await.unwrap()
    }
}

fn pair(name: &str, value: impl std::fmt::Display) -> (String, String) {
    (name.to_owned(), format!("{value}"))
}

fn asked(question: &Json) -> Json {
    serde_json::from_slice(&browser::answer(question.to_string().as_bytes())).unwrap()
}

impl Phone {
    fn sign(&self, input: &str) -> String {
        format!("{input}.{}", b64::url(&self.key.sign(input.as_bytes())))
    }

    fn x(&self) -> Hash {
        Hash(*self.key.public().as_bytes())
    }

    async fn challenge(&self, farm: &Farm) -> Json {
        let (status, body) = farm.send("/me/keys/challenge", &self.cookie, &[pair("key", self.x())]).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let challenge: Json = serde_json::from_str(&body).unwrap();
        challenge["possession"].clone()
    }

    fn pop(&self, possession: &Json) -> String {
        let answer = asked(&json!({"possession": {"possession": possession, "key": self.x()}}));
        self.sign(answer["signing_input"].as_str().unwrap())
    }

    async fn enrol(&self, farm: &Farm, password: &str) -> (StatusCode, String) {
        let possession = self.challenge(farm).await;
        let jti = possession["jti"].as_str().unwrap();
        let pop = self.pop(&possession);
        let form = [pair("key", self.x()), pair("jti", jti), pair("pop", pop), pair("password", password)];
        farm.send("/me/keys", &self.cookie, &form).await
    }

    /// The form with its signature, and what was asked of the module.
    async fn signed(&self, farm: &Farm, typed: &Form, change: impl Fn(&mut Json)) -> Form {
        let (status, body) = farm.send(&format!("{HARVEST}/grounds"), &self.cookie, typed).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let mut question = json!({"record": {
            "profile": include_str!("../../profiles/grain.toml"),
            "step": "harvest",
            "typed": typed,
            "grounds": serde_json::from_str::<Json>(&body).unwrap(),
            "enrolled": {"kid": self.key.kid(), "aud": farm.state.keys.ledger(), "party": self.party},
            "iat": chrono::Utc::now().timestamp(),
            "salts": b64::url(&std::array::from_fn::<u8, 640, _>(|at| u8::try_from(at % 251).unwrap())),
        }});
        change(&mut question);
        let answer = asked(&question);
        let input = answer["signing_input"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let mut form = typed.clone();
        form.extend([pair("signed", self.sign(input)), pair("salts", answer["salts"].as_str().unwrap())]);
        form
    }
}

async fn typed(farm: &Farm, number: &str) -> (Uuid, Form) {
    let jti = Uuid::now_v7();
    let mut form = farm.harvest_form(number).await;
    form.push(pair("jti", jti));
    (jti, form)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_signed_is_logged_to_the_byte_and_shown_as_their_own() {
    let Some(mut farm) = Farm::open("own_keys").await else { return };
    let cookie = farm.sign_in("wei").await;
    let phone = farm.enrolled_phone(&cookie, 11).await;
    let kid = phone.key.kid().to_string();
    assert!(farm.page("/me/keys", &cookie).await.contains(&kid));
    assert!(farm.page(HARVEST, &cookie).await.contains(&format!("data-keys=\"{kid}\"")));

    let (jti, form) = typed(&farm, "W0001").await;
    let form = phone.signed(&farm, &form, |_| ()).await;
    let signed = form.iter().find(|(name, _)| name == "signed").unwrap().1.clone();
    for _ in 0..2 {
        assert_eq!(farm.send(HARVEST, &cookie, &form).await.0, StatusCode::SEE_OTHER, "sent twice is one");
    }
    let record = farm.record(jti).await.unwrap();
    assert_eq!(record.signed, signed);
    let mut conn = farm.state.store.connection().await.unwrap();
    let key = key::by_kid(&mut conn, &record.kid).await.unwrap().unwrap();
    assert_eq!((key.custody.as_str(), key.sealed), ("browser", None));
    assert!(farm.page(&format!("/receipts/{jti}"), &cookie).await.contains("本人设备签名"));
    assert!(farm.page(&format!("/01/{}/10/W0001", farm::gtin()), "").await.contains("本人设备签名"));

    let (other, form) = typed(&farm, "W0002").await;
    assert_eq!(farm.send(HARVEST, &cookie, &form).await.0, StatusCode::SEE_OTHER, "a form without script");
    assert!(farm.page(&format!("/receipts/{other}"), &cookie).await.contains("平台代签"));

    drop(conn);
    farm.log_roster().await;
    let bundle: Bundle = farm.get(&format!("/proof/{jti}"), "*/*", "").await.parse().unwrap();
    let report = verify(&bundle, &farm.trust());
    assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
    let found = farm.fsck().await;
    assert!(found.is_clean(), "{:?}", found.misfits);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_not_what_the_ledger_would_write_is_refused_with_its_reason() {
    let Some(farm) = Farm::open("own_keys_refused").await else { return };
    let cookie = farm.sign_in("wei").await;
    let phone = farm.enrolled_phone(&cookie, 11).await;
    let stranger = farm.phone(&cookie, 12).await;
    let (jti, form) = typed(&farm, "W0001").await;
    let good = phone.signed(&farm, &form, |_| ()).await;
    let with = |name: &str, value: &dyn Fn(&str) -> String| -> Form {
        let change = |(known, text): &(String, String)| {
            (known.clone(), if known == name { value(text) } else { text.clone() })
        };
        good.iter().map(change).collect()
    };
    let at = |pointer: &'static str, value: Json| {
        let (phone, farm, form) = (&phone, &farm, &form);
        async move { phone.signed(farm, form, |asked| *asked.pointer_mut(pointer).unwrap() = value.clone()).await }
    };
    let now = chrono::Utc::now().timestamp();
    let seen = json!({"origin": "localhost/suyuan/2026", "size": 1, "root": Hash([1; 32])});
    let another = json!([{"rel": "evidence", "leaf": Hash([1; 32])}]);
    let cases = [
        ("不能替您签名", stranger.signed(&farm, &form, |_| ()).await),
        ("没有签上名", with("signed", &|_| String::new())),
        ("读不出来", with("signed", &|text| text.replace('.', ""))),
        ("读不出来", with("salts", &|text| text.chars().take(30).collect())),
        (
            "签名不对",
            with("signed", &|text| {
                format!("{}{}", text.rsplit_once('.').unwrap().0, ".".to_owned() + &b64::url(&[1; 64]))
            }),
        ),
        ("不一样", with("weight", &|_| "10001".to_owned())),
        ("不一样", with("variety", &|_| "guangliangxiang".to_owned())),
        (
            "不一样",
            with("salts", &|text| b64::url(&[&b64::from_url(text).unwrap(), [9; 16].as_slice()].concat())),
        ),
        ("不一样", with("jti", &|_| Uuid::now_v7().to_string())),
        ("不一样", at("/record/grounds/refs", another).await),
        ("不一样", at("/record/grounds/act", Json::Null).await),
        ("不一样", at("/record/grounds/context/author_details", json!({"name": "nobody"})).await),
        ("不一样", at("/record/grounds/seen", seen).await),
        ("时间不对", at("/record/iat", json!(now + 3_600)).await),
        ("时间不对", at("/record/iat", json!(now - 90_000)).await),
    ];
    for (reason, form) in cases {
        let (status, page) = farm.send(HARVEST, &cookie, &form).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{reason}");
        assert!(page.contains(reason), "{reason}: {page}");
    }
    assert!(farm.record(jti).await.is_none());
    assert_eq!(
        farm.send(HARVEST, &cookie, &good).await.0,
        StatusCode::SEE_OTHER,
        "and as it was signed, it counts"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_enrolled_by_who_holds_it_and_knows_the_password_once_and_soon() {
    let Some(farm) = Farm::open("own_keys_enrol").await else { return };
    let cookie = farm.sign_in("wei").await;
    let (phone, other) = (farm.phone(&cookie, 11).await, farm.phone(&cookie, 12).await);
    let (status, page) = phone.enrol(&farm, "another password").await;
    assert!(status == StatusCode::UNPROCESSABLE_ENTITY && page.contains("密码不对"), "{page}");

    let possession = phone.challenge(&farm).await;
    let jti = possession["jti"].as_str().unwrap();
    let form = |jti: &str, pop: String| {
        [pair("key", phone.x()), pair("jti", jti), pair("pop", pop), pair("password", PASSWORD)]
    };
    let forged = asked(&json!({"possession": {"possession": possession, "key": phone.x()}}));
    let forged = other.sign(forged["signing_input"].as_str().unwrap());
    assert_eq!(farm.send("/me/keys", &cookie, &form(jti, forged)).await.0, StatusCode::BAD_REQUEST);
    let mut old = possession.clone();
    old["jti"] = json!("01934567-89ab-7def-8123-456789abcdef");
    let stale = form("01934567-89ab-7def-8123-456789abcdef", phone.pop(&old));
    assert_eq!(farm.send("/me/keys", &cookie, &stale).await.0, StatusCode::CONFLICT);

    assert_eq!(
        farm.send("/me/keys", &cookie, &form(jti, phone.pop(&possession))).await.0,
        StatusCode::SEE_OTHER
    );
    assert_eq!(phone.enrol(&farm, PASSWORD).await.0, StatusCode::CONFLICT, "enrolled before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_phone_signs_no_more_and_nobody_else_s_can_be_given_up() {
    let Some(farm) = Farm::open("own_keys_lost").await else { return };
    let (cookie, stranger) = (farm.sign_in("wei").await, farm.sign_in("depot").await);
    let phone = farm.enrolled_phone(&cookie, 11).await;
    let (jti, form) = typed(&farm, "W0001").await;
    let form = phone.signed(&farm, &form, |_| ()).await;
    let lost = format!("/me/keys/{}/lost", phone.key.kid());
    assert_eq!(farm.send(&lost, &stranger, &[]).await.0, StatusCode::NOT_FOUND);
    assert_eq!(farm.send(&lost, &cookie, &[]).await.0, StatusCode::SEE_OTHER);
    assert_eq!(farm.send(&lost, &cookie, &[]).await.0, StatusCode::CONFLICT);

    let (status, page) = farm.send(HARVEST, &cookie, &form).await;
    assert!(status == StatusCode::UNPROCESSABLE_ENTITY && page.contains("不能替您签名"), "{page}");
    assert!(farm.record(jti).await.is_none());
    assert!(farm.page("/me/keys", &cookie).await.contains("已停用"));
    assert!(!farm.page(HARVEST, &cookie).await.contains("data-keys"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_key_is_listed_and_counted_however_many_were_given_up_since() {
    let Some(farm) = Farm::open("own_keys_many").await else { return };
    let cookie = farm.sign_in("wei").await;
    let phone = farm.enrolled_phone(&cookie, 11).await;
    let (client, connection) =
        tokio_postgres::connect(&farm.state.config.database.database_url, tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    client
        .batch_execute(
            "insert into key (kid, party_id, role, custody, state, since, public, enrolled_by, account_id)
            select sha256(number::text::bytea), party_id, role, custody, 'revoked', now() + interval '1 minute',
                public, enrolled_by, account_id
            from key, generate_series(1, 150) number where account_id is not null",
        )
        .await
        .unwrap();
    let page = farm.page("/me/keys", &cookie).await;
    assert!(page.contains(&phone.key.kid().to_string()), "what signs can be given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_pages_that_sign_may_compile_a_module_and_what_they_load_is_kept_for_ever() {
    let Some(farm) = Farm::open("own_keys_assets").await else { return };
    let cookie = farm.sign_in("wei").await;
    let may_compile = async |path: &str| {
        let policy = farm.header(path, &cookie, header::CONTENT_SECURITY_POLICY).await;
        policy.contains("'wasm-unsafe-eval'")
    };
    assert!(may_compile("/me/keys").await);
    for page in [HARVEST, "/day", "/01/09521234000150/10/NOBODY"] {
        assert!(!may_compile(page).await, "{page}");
    }
    farm.enrolled_phone(&cookie, 11).await;
    assert!(may_compile(HARVEST).await);

    let profile = assets::profile_path(farm.state.profiles.by_id("grain").unwrap());
    for (path, media_type) in [
        (assets::MODULE.path(), "application/wasm"),
        (assets::SIGN.path(), "text/javascript; charset=utf-8"),
        (&profile, "application/toml; charset=utf-8"),
    ] {
        assert_eq!(farm.header(path, "", header::CONTENT_TYPE).await, media_type);
        let kept = farm.header(path, "", header::CACHE_CONTROL).await;
        assert_eq!(kept, "public, max-age=31536000, immutable", "{path}");
    }
    assert_eq!(farm.get(&profile, "*/*", "").await, include_str!("../../profiles/grain.toml"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_enrols_many_phones_at_once_has_as_many_good_keys_as_it_may() {
    let Some(farm) = Farm::open("own_keys_at_once").await else { return };
    let cookie = farm.sign_in("wei").await;
    for seed in 60..68 {
        farm.enrolled_phone(&cookie, seed).await;
    }
    let mut phones = Vec::new();
    for seed in 68..74 {
        phones.push(farm.phone(&cookie, seed).await);
    }
    let answers = phones.iter().map(|phone| phone.enrol(&farm, PASSWORD));
    let mut answers = futures_util::future::join_all(answers).await;
    answers.sort_by_key(|(status, _)| *status);
    let statuses: Vec<StatusCode> = answers.into_iter().map(|(status, _)| status).collect();
    let (enrolled, conflict) = (StatusCode::SEE_OTHER, StatusCode::CONFLICT);
    assert_eq!(statuses, [enrolled, enrolled, conflict, conflict, conflict, conflict]);
}
