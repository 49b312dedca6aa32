//! What shoppers report of a code reaches those whose business it is, and is answered; floods are refused.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod database;
mod farm;
mod house;

use actix_web::{
    http::{StatusCode, header},
    test::TestRequest,
};
use farm::{Farm, gtin};

impl Farm {
    async fn post(
        &self,
        path: &str,
        cookie: &str,
        from: &str,
        form: &[(&str, &str)],
    ) -> (StatusCode, String) {
        let request = TestRequest::post()
            .uri(path)
            .peer_addr(format!("{from}:4000").parse().unwrap())
            .insert_header((header::COOKIE, cookie))
            .insert_header((header::ACCEPT, "text/html"))
            .insert_header((header::ACCEPT_LANGUAGE, "zh-CN"))
            .set_form(form);
        self.request(request).await
    }

    async fn report(&self, number: &str, from: &str, text: &str) -> (StatusCode, String) {
        let path = format!("/01/{}/10/{number}", gtin());
        self.post("/report", "", from, &[("path", &path), ("text", text)]).await
    }
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).unwrap().1.split_once(to).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_read_and_answered_by_maker_operator_and_regulator_and_by_nobody_else() {
    let Some(farm) = Farm::open("reports").await else { return };
    farm.harvest("W0001").await;
    let [maker, other, operator, regulator] = [
        farm.sign_in("wei").await,
        farm.sign_in("depot").await,
        farm.sign_in("operator").await,
        farm.sign_in("authority").await,
    ];
    assert_eq!(farm.report("W0001", "192.0.2.1", "<b>发霉了</b>").await.0, StatusCode::SEE_OTHER);
    assert_eq!(farm.report("W0002", "192.0.2.1", "never issued").await.0, StatusCode::NOT_FOUND);
    assert_eq!(farm.report("W0001", "192.0.2.1", "  ").await.0, StatusCode::BAD_REQUEST);
    let list = farm.page("/reports", &operator).await;
    let address = format!("/reports/{}", between(&list, "action=\"/reports/", "\""));
    for reader in [&maker, &operator, &regulator] {
        let page = farm.page("/reports", reader).await;
        assert!(page.contains("发霉了") && !page.contains("<b>发"), "{page}");
    }
    assert!(!farm.page("/reports", &other).await.contains("发霉了"));
    assert!(
        farm.page("/day", &maker).await.contains(">消费者反映</span>"),
        "the maker sees that the regulator looked"
    );

    let answer = [("answer", "已通知退换"), ("close", "yes")];
    assert_eq!(farm.post(&address, &other, "192.0.2.9", &answer).await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        farm.post(&address, &maker, "192.0.2.9", &[("answer", "已通知退换")]).await.0,
        StatusCode::SEE_OTHER
    );
    let told = farm.page(&address, "").await;
    assert!(told.contains("已通知退换") && !told.contains("已处理"), "{told}");
    assert_eq!(
        farm.post(&address, &regulator, "192.0.2.9", &[("close", "yes")]).await.0,
        StatusCode::SEE_OTHER
    );
    let told = farm.page(&address, "").await;
    assert!(told.contains("已通知退换") && told.contains("已处理"), "closing takes no answer away: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_reports_are_refused_by_code_and_by_network_in_the_reader_s_language() {
    let Some(farm) = Farm::open("reports_flood").await else { return };
    for number in ["W0001", "W0002", "W0003"] {
        farm.harvest(number).await;
    }
    for from in 1..=5 {
        let (status, page) = farm.report("W0001", &format!("192.0.2.{from}"), "again").await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    }
    let (status, page) = farm.report("W0001", "192.0.2.6", "again").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(page.contains("反映得太频繁了"), "{page}");

    for at in 0..10 {
        let number = if at < 5 { "W0002" } else { "W0003" };
        assert_eq!(farm.report(number, "198.51.100.1", "again").await.0, StatusCode::SEE_OTHER);
    }
    assert_eq!(farm.report("W0009", "198.51.100.1", "again").await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(farm.report("W0009", "198.51.100.2", "again").await.0, StatusCode::NOT_FOUND);
}
