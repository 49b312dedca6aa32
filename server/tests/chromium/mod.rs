//! Chromium without a window, told what to do over its DevTools pipe: JSON messages, each ended by a zero byte.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

/// A page on a machine that is testing other things as well.
const PATIENCE: Duration = Duration::from_mins(1);
/// The DevTools pipe is read from descriptor 3 and written to descriptor 4.
const START: &str = r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;

pub struct Chromium {
    child: Child,
    to: ChildStdin,
    from: Receiver<Json>,
    profile: PathBuf,
    session: Option<String>,
    asked: u64,
}

impl Chromium {
    /// A fresh profile and one empty page; `None`, loudly, where there is no Chromium.
    pub fn open() -> Option<Self> {
        if Command::new("chromium").arg("--version").output().is_err() {
            eprintln!("SKIPPED: chromium is not installed: no browser made or used a key");
            return None;
        }
        let profile = std::env::temp_dir().join(format!("suyuan-chromium-{}", uuid::Uuid::now_v7()));
        let mut child = Command::new("sh")
            .args(["-c", START, "sh", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--accept-lang=zh-CN", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (told, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(out).split(0).map_while(Result::ok) {
                if told.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { child, to, from, profile, session: None, asked: 0 };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session =
            browser.call("Target.attachToTarget", &attach)["sessionId"].as_str().unwrap().to_owned();
        browser.session = Some(session);
        Some(browser)
    }

    fn call(&mut self, method: &str, params: &Json) -> Json {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let told = self.from.recv_timeout(PATIENCE).unwrap();
            if told["id"] == json!(self.asked) {
                assert!(told.get("error").is_none(), "{method}: {told}");
                return told["result"].clone();
            }
        }
    }

    pub fn go(&mut self, url: &str) {
        let gone = self.call("Page.navigate", &json!({"url": url}));
        assert!(gone.get("errorText").is_none(), "{url}: {gone}");
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    /// What an expression is, once its promise is kept. Between two pages there is nothing to ask: `null`.
    pub fn evaluate(&mut self, expression: &str) -> Json {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        self.call("Runtime.evaluate", &params)["result"]["value"].clone()
    }

    pub fn until(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        while self.evaluate(expression) != json!(true) {
            if Instant::now() > end {
                let shown = self.evaluate("location.href + '\\n' + document.body.innerText");
                panic!("never {expression}: {}", shown.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
        std::fs::remove_dir_all(&self.profile).unwrap_or_default();
    }
}
