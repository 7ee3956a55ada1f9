//! `ringback run` and `ringback call` as a script uses them: two processes, and SIP between them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;

#[test]
fn a_gateway_says_when_it_is_ready_takes_a_call_and_stops_when_told() {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    write_config(folder.path());
    let gateway = Gateway::start(folder.path());

    let greeted = call(&gateway, "100", &["--expect-sound-within", "1000", "--duration", "2"]);
    let echoed = call(&gateway, "102", &["--play", &fixture("caller.wav"), "--expect-sound-within", "1500"]);
    let nobody = call(&gateway, "999", &["--expect-sound-within", "1000"]);
    let stopped = gateway.stop();

    assert_eq!(greeted.status.code(), Some(0), "{}", text(&greeted));
    assert_eq!(echoed.status.code(), Some(0), "{}", text(&echoed));
    let figures: Value = serde_json::from_slice(&echoed.stdout).expect("one JSON value");
    assert!(figures["first_sound_ms"].as_u64() >= figures["answer_ms"].as_u64(), "{figures}");
    assert_eq!((&figures["ok"], &figures["lost"]), (&Value::Bool(true), &Value::from(0)));
    assert_eq!(nobody.status.code(), Some(1), "{}", text(&nobody));
    let refused: Value = serde_json::from_slice(&nobody.stdout).expect("one JSON value");
    assert_eq!((&refused["ok"], &refused["answer_ms"]), (&Value::Bool(false), &Value::Null));
    assert!(refused["end"].as_str().is_some_and(|end| end.contains("404")), "{refused}");
    assert_eq!(stopped.code(), Some(0));
}

#[test]
fn a_gateway_does_not_start_on_a_broken_configuration() {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    write_config(folder.path());
    fs::write(folder.path().join("agents/echo.toml"), "version = 1\n").expect("the file can be written");
    let dir = folder.path().to_str().expect("the path is text");

    let output = ringback(&["run", "--config-dir", dir, "--json"]).output().expect("the binary can be run");

    assert_eq!(output.status.code(), Some(78));
    assert!(output.stdout.is_empty());
    assert!(text(&output).contains("agents/echo.toml"), "{}", text(&output));
}

#[test]
fn a_gateway_reads_its_files_again_when_asked_and_refuses_broken_ones() {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    write_config(folder.path());
    let gateway = Gateway::start(folder.path());
    let routes = |first: &str| {
        let text = format!(
            "version = 1\n[[route]]\ncalled = \"103\"\n{first}\n[[route]]\ncalled = \"*\"\nreject = \"busy\"\n"
        );
        fs::write(folder.path().join("routes.toml"), text).expect("the file can be written");
    };
    let answers = || call(&gateway, "103", &["--expect-sound-within", "1500"]).status.code() == Some(0);
    assert!(!answers(), "the number leads nowhere yet");

    routes("agent = \"desk\"");
    gateway.signal("-HUP");
    // The signal is heard some time; each try takes a call.
    let is_followed = (0..20).any(|_| answers());
    routes("agent = \"nobody\"");
    let broken = gateway.post("/reload");
    let as_before = answers();
    routes("reject = \"unavailable\"");
    let good = gateway.post("/reload");
    let refused = call(&gateway, "103", &["--expect-sound-within", "1500"]);
    let read = gateway.request("GET", "/reload");

    assert!(is_followed, "new routes count after SIGHUP");
    assert!(broken.starts_with("HTTP/1.1 422") && broken.contains("routes.toml"), "{broken}");
    assert!(as_before, "a broken tree changes nothing");
    assert!(good.starts_with("HTTP/1.1 200") && good.contains("\"ok\":true"), "{good}");
    assert!(text(&refused).contains("480"), "{}", text(&refused));
    assert!(read.starts_with("HTTP/1.1 405"), "reading is not asking for it: {read}");
    assert_eq!(gateway.stop().code(), Some(0));
}

struct Gateway {
    process: Child,
    sip: String,
    admin: String,
}

impl Gateway {
    fn start(folder: &Path) -> Gateway {
        let dir = folder.to_str().expect("the path is text");
        let mut command = ringback(&["run", "--config-dir", dir, "--patience", "2", "--json"]);
        let command = command.current_dir(folder).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the binary can be run");
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("the output is text");
        let ready: Value = serde_json::from_str(&line).expect("the first line is JSON");
        assert_eq!(ready["ready"], true);
        let udp = ready["sip"].as_array().and_then(|list| list.iter().find(|one| one["transport"] == "udp"));
        let sip = udp.and_then(|one| one["address"].as_str()).expect("it listens on UDP").to_owned();
        let admin = ready["admin"].as_str().expect("it has an admin listener").to_owned();
        Gateway { process, sip, admin }
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("there is a kill").success());
    }

    fn post(&self, path: &str) -> String {
        self.request("POST", path)
    }

    /// The whole answer of the admin listener.
    fn request(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).expect("the admin listener is there");
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text");
        answer
    }

    fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.process.wait().expect("it ends")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Where a test failed before it was stopped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn call(gateway: &Gateway, user: &str, more: &[&str]) -> Output {
    let to = format!("sip:{user}@{}", gateway.sip);
    let mut command = ringback(&["call", &to, "--json"]);
    let short = if more.contains(&"--duration") { &[][..] } else { &["--duration", "2"] };
    command.args(more).args(short).output().expect("the binary can be run")
}

fn write_config(folder: &Path) {
    let files = [
        (
            "gateway.toml",
            "version = 1\n[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\naddress = \"127.0.0.1\"\nport_first = 26000\n\
             port_last = 26499\nloopback_only = true\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        ),
        (
            "routes.toml",
            "version = 1\n[[route]]\ncalled = \"100\"\nagent = \"desk\"\n[[route]]\ncalled = \"102\"\nagent = \"echo\"\n\
             [[route]]\ncalled = \"*\"\nreject = \"not_found\"\n",
        ),
        ("trunks/local.toml", "version = 1\ntitle = \"Here\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n"),
        ("agents/echo.toml", "version = 1\ntitle = \"Echo\"\nconnector = \"echo\"\n"),
        ("agents/desk.toml", "version = 1\ntitle = \"Desk\"\nconnector = \"flow\"\n[flow]\nworkflow = \"hello\"\n"),
        (
            "workflows/hello.toml",
            "version = 1\ntitle = \"Hello\"\n[[step]]\nid = \"hello\"\nsay.prompt = { clips = [\"welcome.wav\"] }\n",
        ),
    ];
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("the folder can be made");
        fs::write(path, content).expect("the file can be written");
    }
    fs::create_dir_all(folder.join("prompts")).expect("the folder can be made");
    fs::copy(fixture("welcome.wav"), folder.join("prompts/welcome.wav")).expect("the fixture is there");
}

fn fixture(name: &str) -> String {
    format!("{}/audio-fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn ringback(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    command.args(arguments);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
