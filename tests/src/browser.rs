//! Chromium, asked over its debugging pipe: what a page looks like to who uses it.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use base64::Engine as _;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

/// One window of a browser of its own; ends with the test.
pub struct Browser {
    process: Child,
    requests: File,
    answers: Receiver<Value>,
    session: Option<String>,
    asked: u64,
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.kill().unwrap_or_default();
        drop(self.process.wait());
    }
}

impl Browser {
    /// `None`, said loudly, where Chromium is missing. Its pipes and profile lie in `home`.
    pub fn start(home: &Path) -> Option<Self> {
        if Command::new("chromium").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: chromium is not installed, no page was looked at");
            return None;
        }
        std::fs::create_dir_all(home).unwrap();
        let [requests, answers] = ["requests", "answers"].map(|name| {
            let path = home.join(name);
            std::fs::remove_file(&path).unwrap_or_default();
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        });
        // Opened for both, so that nobody waits for the other side.
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path).unwrap();
        let (to, from) = (open(&requests), open(&answers));
        // The protocol is read from descriptor 3 and written to 4.
        let process = Command::new("sh")
            .args(["-c", r#"exec 3<"$0" 4>"$1"; shift; exec chromium "$@""#])
            .args([&requests, &answers])
            .arg(format!("--user-data-dir={}", home.join("profile").display()))
            .arg("--remote-debugging-pipe")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .arg("--disable-background-networking")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut browser = Self { process, requests: to, answers: listen(from), session: None, asked: 0 };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        browser.session =
            browser.call("Target.attachToTarget", &attach)["sessionId"].as_str().map(str::to_owned);
        browser.call("Network.enable", &json!({}));
        Some(browser)
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.asked += 1;
        let mut request = json!({"id": self.asked, "method": method, "params": params});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.requests.write_all(format!("{request}\0").as_bytes()).unwrap();
        loop {
            let mut answer = self.answers.recv_timeout(PATIENCE).unwrap();
            if answer["id"] == self.asked {
                assert!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
        }
    }

    /// The reader's cookie and language from now on.
    pub fn wear(&mut self, cookie: &str, language: &str) {
        let mut headers = json!({"Accept-Language": language});
        if !cookie.is_empty() {
            headers["Cookie"] = json!(cookie);
        }
        self.call("Network.setExtraHTTPHeaders", &json!({"headers": headers}));
    }

    /// A telephone of that width in CSS pixels.
    pub fn resize(&mut self, width: u32) {
        let metrics = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": true});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Loads `url` and waits until it stands.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", &json!({"url": url}));
        let until = Instant::now() + PATIENCE;
        while self.evaluate("document.readyState + ' ' + location.protocol") != "complete http:" {
            assert!(Instant::now() < until, "{url} does not load");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a script of ours answers on the page; the page's own policy does not concern it.
    pub fn evaluate(&mut self, script: &str) -> Value {
        let asked = json!({"expression": script, "returnByValue": true});
        self.call("Runtime.evaluate", &asked)["result"]["value"].take()
    }
}

impl Browser {
    /// How many sheets the page is printed on, at the size that it asks for.
    pub fn printed_sheets(&mut self) -> usize {
        let file = self.call("Page.printToPDF", &json!({"preferCSSPageSize": true}))["data"].take();
        let file = base64::engine::general_purpose::STANDARD.decode(file.as_str().unwrap()).unwrap();
        let text = String::from_utf8_lossy(&file);
        text.matches("/Type /Page").count() - text.matches("/Type /Pages").count()
    }
}

/// Messages end with a NUL.
fn listen(mut from: File) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let (mut waiting, mut chunk) = (Vec::new(), vec![0; 65_536]);
        while let Ok(count) = from.read(&mut chunk) {
            waiting.extend_from_slice(chunk.get(..count).unwrap_or_default());
            while let Some(end) = waiting.iter().position(|byte| *byte == 0) {
                let message: Vec<u8> = waiting.drain(..=end).collect();
                let message = serde_json::from_slice(message.get(..end).unwrap_or_default());
                if message.is_ok_and(|message| sender.send(message).is_err()) {
                    return;
                }
            }
        }
    });
    receiver
}
