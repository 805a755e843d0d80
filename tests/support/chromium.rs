//! Real headless Chromium, driven over the DevTools protocol: JSON messages,
//! each ended by a zero byte, on two pipes.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    log::Log,
    tool::{Scratch, has},
    wait::wait_until,
};

/// Longest wait for one answer of the browser, its start included.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait for its end after it was asked to.
const END: Duration = Duration::from_secs(5);
/// How often a page is asked whether something holds.
const POLL: Duration = Duration::from_millis(100);

/// The browser reads from descriptor 3 and writes to 4.
const WITH_PIPES: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >&2"#;
/// It asks nobody for anything but what a page wants, plays without a click,
/// and shares no memory but its own files.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-breakpad",
    "--disable-sync",
    "--remote-debugging-pipe",
];

/// A running browser. Dropped, it ends.
pub(crate) struct Chromium {
    child: Child,
    link: Arc<Link>,
    log: Log,
    _profile: Scratch,
}

/// One page of it.
pub(crate) struct Page<'a> {
    browser: &'a Chromium,
    target: String,
    session: String,
}

/// What a page has made known by itself.
#[derive(Clone, Debug, Default)]
struct Notes {
    requests: Vec<String>,
    answers: Vec<(u64, String)>,
    complaints: Vec<String>,
    status: Option<u64>,
}

#[derive(Default)]
struct Heard {
    answers: BTreeMap<u64, Value>,
    notes: BTreeMap<String, Notes>,
    is_closed: bool,
}

struct Link {
    input: Mutex<ChildStdin>,
    heard: Mutex<Heard>,
    bell: Condvar,
    last_id: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Chromium {
    /// Starts one with an empty profile; none, aloud, where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        if !has("chromium") {
            return None;
        }
        let profile = Scratch::new();
        let mut command = Command::new("sh");
        command.args(["-c", WITH_PIPES, "chromium"]).args(FLAGS);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: the closure runs between fork and exec and only makes a system call.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().expect("a shell starts");
        let log = Log::default();
        log.follow(child.stderr.take().expect("piped"));
        let link = Arc::new(Link {
            input: Mutex::new(child.stdin.take().expect("piped")),
            heard: Mutex::default(),
            bell: Condvar::new(),
            last_id: AtomicU64::new(0),
        });
        let output = child.stdout.take().expect("piped");
        thread::spawn({
            let link = link.clone();
            move || link.listen(BufReader::new(output))
        });
        let browser = Self { child, link, log, _profile: profile };
        browser.call(None, "Browser.getVersion", json!({}));
        Some(browser)
    }

    /// Opens `url` in a page of its own, and returns when it has loaded.
    pub(crate) fn open(&self, url: &str) -> Page<'_> {
        let target =
            self.call(None, "Target.createTarget", json!({ "url": "about:blank", "newWindow": true }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call(None, "Target.attachToTarget", attach);
        let session = attached["sessionId"].as_str().expect("a page has a session").to_owned();
        let target = target["targetId"].as_str().expect("a page has a name").to_owned();
        let page = Page { browser: self, target, session };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        let went = page.call("Page.navigate", json!({ "url": url }));
        assert!(went.get("errorText").is_none(), "{url}: {went}");
        let loaded = "location.href !== 'about:blank' && document.readyState === 'complete'";
        assert!(page.holds_within(ANSWER, loaded), "{url} does not load");
        page
    }

    /// Panics when the browser refuses or does not answer.
    fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let answer = self.link.ask(session, method, params).unwrap_or_else(|why| {
            panic!("{method}: {why}; Chromium says:\n{}", self.log.text());
        });
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its helpers end with it; killed, they may notice late.
        self.link.send(None, "Browser.close", json!({})).ok();
        let has_ended = wait_until(END, || matches!(self.child.try_wait(), Ok(Some(_))));
        if !has_ended {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

impl Link {
    fn send(&self, session: Option<&str>, method: &str, params: Value) -> std::io::Result<u64> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        lock(&self.input).write_all(&bytes)?;
        Ok(id)
    }

    fn ask(&self, session: Option<&str>, method: &str, params: Value) -> Result<Value, String> {
        let id = self.send(session, method, params).map_err(|error| error.to_string())?;
        let deadline = Instant::now() + ANSWER;
        let mut heard = lock(&self.heard);
        loop {
            if let Some(answer) = heard.answers.remove(&id) {
                return Ok(answer);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if heard.is_closed {
                return Err("the browser has ended".to_owned());
            }
            if left.is_zero() {
                return Err(format!("no answer within {ANSWER:?}"));
            }
            heard = self.bell.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn listen(&self, mut output: impl BufRead) {
        let mut bytes = Vec::new();
        while matches!(output.read_until(0, &mut bytes), Ok(1..)) {
            if bytes.pop_if(|last| *last == 0).is_some()
                && let Ok(message) = serde_json::from_slice::<Value>(&bytes)
            {
                let mut heard = lock(&self.heard);
                match message["id"].as_u64() {
                    Some(id) => drop(heard.answers.insert(id, message)),
                    None => heard.note(&message),
                }
                self.bell.notify_all();
            }
            bytes.clear();
        }
        lock(&self.heard).is_closed = true;
        self.bell.notify_all();
    }
}

impl Heard {
    fn note(&mut self, event: &Value) {
        let Some(session) = event["sessionId"].as_str() else { return };
        let notes = self.notes.entry(session.to_owned()).or_default();
        let params = &event["params"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => notes.requests.push(text(&params["request"]["url"])),
            "Network.responseReceived" => {
                let status = params["response"]["status"].as_u64();
                notes.answers.push((status.unwrap_or(0), text(&params["response"]["url"])));
                if params["type"] == "Document" {
                    notes.status = status;
                }
            }
            "Runtime.exceptionThrown" => notes.complaints.push(params["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" if matches!(params["type"].as_str(), Some("error" | "warning")) => {
                notes.complaints.push(params["args"].to_string());
            }
            // A status is no complaint: pages ask in order to learn it.
            "Log.entryAdded" if params["entry"]["source"] != "network" => {
                notes.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
    }
}

impl Page<'_> {
    fn call(&self, method: &str, params: Value) -> Value {
        self.browser.call(Some(&self.session), method, params)
    }

    /// Closes it, as a user does.
    pub(crate) fn close(self) {
        self.browser.call(None, "Target.closeTarget", json!({ "targetId": self.target }));
    }

    /// What a JavaScript expression comes to; panics when it throws.
    pub(crate) fn evaluate(&self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let outcome = self.call("Runtime.evaluate", params);
        let thrown = outcome.get("exceptionDetails");
        assert!(thrown.is_none(), "{expression}: {thrown:?}");
        outcome["result"]["value"].clone()
    }

    /// Looks at a JavaScript expression until it is true or `limit` has passed; says which.
    #[must_use]
    pub(crate) fn holds_within(&self, limit: Duration, expression: &str) -> bool {
        let deadline = Instant::now() + limit;
        while self.evaluate(expression) != true {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// Clicks on the element that `selector` finds, as a user does: what is
    /// hidden or covered is not hit.
    pub(crate) fn click(&self, selector: &str) {
        let place = self.evaluate(&format!(
            "(() => {{ const box = document.querySelector({selector:?}).getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2] }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let at = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", at);
        }
    }

    /// Presses a key that writes `key`.
    pub(crate) fn press(&self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "text": key }));
        }
    }

    /// The status of the page itself.
    pub(crate) fn status(&self) -> Option<u64> {
        self.notes().status
    }

    /// Every address that the page has asked for.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.notes().requests
    }

    /// The status of every answer that it got, and the address that gave it.
    pub(crate) fn answers(&self) -> Vec<(u64, String)> {
        self.notes().answers
    }

    /// What the page threw or complained of in the console, and what the
    /// browser held against it: violations of its policy among that.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.notes().complaints
    }

    fn notes(&self) -> Notes {
        lock(&self.browser.link.heard).notes.get(&self.session).cloned().unwrap_or_default()
    }
}
