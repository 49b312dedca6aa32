//! Labels that no camera would read are refused in the reader's language.
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
use farm::Farm;

#[tokio::test(flavor = "multi_thread")]
async fn a_code_with_modules_below_what_a_camera_reads_is_refused_with_the_size_that_would_do() {
    let Some(farm) = Farm::open("labels").await else { return };
    let code = "/labels/01/09521234000013/21/0ABCDEFGHJKMNPQRS";
    for small in ["/qr.svg?mm=12", "/qr.png?mm=15", "?mm=12"] {
        let request = TestRequest::get()
            .uri(&format!("{code}{small}"))
            .insert_header((header::ACCEPT, "text/html"))
            .insert_header((header::ACCEPT_LANGUAGE, "zh-CN"));
        let (status, page) = farm.request(request).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{small}");
        assert!(page.contains("二维码太小") && page.contains("毫米宽"), "{page}");
    }
    for fit in ["/qr.svg?mm=18", "?mm=18", "?sheet=3x8&mm=90"] {
        let request = TestRequest::get().uri(&format!("{code}{fit}"));
        assert_eq!(farm.request(request).await.0, StatusCode::OK, "{fit}");
    }
}
