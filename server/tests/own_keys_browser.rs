//! A person enrols the key of a real browser and records a step with it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod chromium;
mod database;
mod farm;
mod house;

use chromium::Chromium;
use farm::Farm;
use serde_json::json;

const PASSWORD: &str = "a password that is long";

impl Chromium {
    /// Types into a form's fields, picks what is to be picked, and presses its button.
    fn fill_in(&mut self, form: &str, fields: &[(String, String)]) {
        let filled = self.evaluate(&format!(
            "(() => {{
               const form = document.querySelector({form});
               for (const [name, value] of {fields}) {{
                 const control = form.elements.namedItem(name);
                 if (control !== null) control.value = value;
               }}
               form.querySelector('button').click();
               return true;
             }})()",
            form = json!(form),
            fields = json!(fields),
        ));
        assert_eq!(filled, json!(true), "{form} is not there");
    }

    fn shows(&mut self, text: &str) {
        self.until(&format!("document.body.innerText.includes({})", json!(text)));
    }
}

fn told(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Every kept key as a page sees it: whether it can be taken out, and by what name its export is refused.
const EXPORTED: &str = "(async () => {
  const opening = indexedDB.open('suyuan', 1);
  await new Promise((resolve) => (opening.onsuccess = resolve));
  const all = opening.result.transaction('keys').objectStore('keys').getAll();
  await new Promise((resolve) => (all.onsuccess = resolve));
  opening.result.close();
  return Promise.all(all.result.map(({ key }) =>
    crypto.subtle.exportKey('pkcs8', key).then(() => 'taken out', ({ name }) => name)));
})()";

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_with_the_key_of_their_own_browser() {
    let Some(farm) = Farm::open("own_keys_browser").await else { return };
    let Some(mut page) = Chromium::open() else { return };
    farm.sign_in("wei").await;
    let (address, server) = farm.listen();
    page.go(&format!("{address}/sign-in?next=/me/keys"));
    page.fill_in("main form", &[told("login", "wei"), told("password", PASSWORD)]);
    page.until("location.pathname === '/me/keys' && document.querySelector('#enrol')?.hidden === false");

    page.fill_in("#enrol", &[told("password", "another password")]);
    page.shows("密码不对");
    page.until("document.querySelector('#enrol').hidden === false");
    page.fill_in("#enrol", &[told("password", PASSWORD)]);
    page.until("document.querySelector('[data-kid] .here')?.hidden === false");
    let refused = page.evaluate(EXPORTED);
    assert_eq!(refused, json!(["InvalidAccessError", "InvalidAccessError"]), "both keys stay where they are");

    let mut fields = farm.harvest_form("W0001").await;
    fields.retain(|(name, _)| name != "at");
    page.until("document.querySelector('#enrol').closest('section').hidden");
    page.go(&format!("{address}/work/grain/harvest"));
    page.until("document.querySelector('#signs').hidden === false");
    page.fill_in("form[data-keys]", &fields);
    page.until("location.pathname.startsWith('/receipts/')");
    page.shows("本人设备签名");
    let receipt = page.evaluate("location.pathname");
    let jti = receipt.as_str().unwrap().trim_start_matches("/receipts/").parse().unwrap();
    let mut conn = farm.state.store.connection().await.unwrap();
    let record = store::record::by_jti(&mut conn, jti).await.unwrap().unwrap();
    let key = store::key::by_kid(&mut conn, &record.kid).await.unwrap().unwrap();
    assert_eq!((key.custody.as_str(), key.sealed), ("browser", None));
    page.go(&format!("{address}/01/{}/10/W0001", farm::gtin()));
    page.shows("本人设备签名");

    // What the phone cannot sign is not signed by the platform in silence.
    page.go(&format!("{address}/work/grain/harvest"));
    page.until("document.querySelector('#signs').hidden === false");
    page.evaluate("document.querySelector('form[data-keys]').dataset.module = '/static/gone.wasm'");
    fields.retain(|(name, _)| name != "lot");
    fields.push(told("lot", "W0002"));
    page.fill_in("form[data-keys]", &fields);
    page.shows("没有签上名");
    server.stop(false).await;
}
