//! Containers against an engine that is only played: a socket that answers what testcontainers asks, and for every
//! container a port on which something says `200 OK`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::process::{Child, Command};

use super::*;
use crate::instance::Private;

/// What was asked for, and with which content.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

struct Played {
    folder: tempfile::TempDir,
    asked: Asked,
}

impl Played {
    fn start(create: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("engine.sock")).unwrap();
        let asked = Asked::default();
        tokio::spawn({
            let asked = Arc::clone(&asked);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, create, Arc::clone(&asked)));
                }
            }
        });
        Self { folder, asked }
    }

    /// A test process that starts the registry in a container and keeps it until it is killed.
    fn user(&self) -> Child {
        let mut user = Command::new(std::env::current_exe().unwrap());
        user.args(["--exact", "container::tests::a_user_of_the_registry", "--ignored", "--nocapture"]);
        user.env("DOCKER_HOST", format!("unix://{}", self.folder.path().join("engine.sock").display()));
        user.env("MUSTER_TEST_CACHE", self.folder.path());
        user.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
    }

    /// Waits until somebody asked for this, and returns it.
    async fn asked(&self, start: &str) -> (String, Value) {
        let looking = async {
            loop {
                let found = self.asked.lock().unwrap().iter().find(|(request, _)| request.starts_with(start)).cloned();
                if let Some(found) = found {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(60), looking).await.unwrap_or_else(|_| panic!("nobody asked for {start}"))
    }
}

/// One request, one answer. Versions in paths are left out: `POST /containers/create?name=…`.
async fn serve(stream: UnixStream, create: &str, asked: Asked) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await.unwrap();
    let content: Value = serde_json::from_slice(&content).unwrap_or_default();

    let mut words = head.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.strip_prefix("/v1.").and_then(|path| path.find('/').map(|slash| &path[slash..])).unwrap_or(path);
    let request = format!("{method} {path}");
    let (status, answer) = match request.as_str() {
        "GET /_ping" => ("200 OK", "OK"),
        "POST /containers/played/start" => ("204 No Content", ""),
        "GET /containers/played/json" => ("200 OK", r#"{"Id":"played"}"#),
        // One frame on stdout, of 6 bytes.
        _ if request.starts_with("GET /containers/played/logs") => ("200 OK", "\x01\0\0\0\0\0\0\x06ready\n"),
        _ if request.starts_with("POST /containers/create") => ("201 Created", create),
        _ if request.starts_with("DELETE /containers/") => ("204 No Content", ""),
        _ => ("404 Not Found", "{}"),
    };
    if request == "POST /containers/played/start" {
        run(&asked).await;
    }
    asked.lock().unwrap().push((request, content));
    let headers = "Api-Version: 1.47\r\nContent-Type: application/json\r\nConnection: close";
    let answer = format!("HTTP/1.1 {status}\r\n{headers}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// The container's server, on the port that it was created with.
async fn run(asked: &Asked) {
    let port = asked.lock().unwrap().iter().find_map(|(_, content)| port(content)).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
}

fn port(create: &Value) -> Option<u16> {
    create["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostPort"].as_str()?.parse().ok()
}

fn name(create: &str) -> String {
    create.split(['?', '&']).find_map(|part| part.strip_prefix("name=")).unwrap().to_owned()
}

#[tokio::test]
#[ignore = "a process of the other tests"]
async fn a_user_of_the_registry() {
    let engine = Engine::find().await.unwrap();
    match Private::start(crate::registry::container(engine)).await {
        Ok(registry) => {
            println!("\nusing {}", registry.port());
            std::future::pending::<()>().await;
        }
        Err(err) => println!("\nfailed: {err:#}"),
    }
}

/// What the process of the other tests says at last.
async fn said(user: &mut Child) -> String {
    let mut lines = BufReader::new(user.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.starts_with("using") || line.starts_with("failed") {
            return line;
        }
    }
    panic!("it said nothing");
}

#[tokio::test]
async fn a_container_is_on_loopback_only_and_goes_when_its_user_is_killed() {
    let engine = Played::start(r#"{"Id":"played","Warnings":[]}"#);
    let mut user = engine.user();
    let said = said(&mut user).await;

    let (create, content) = engine.asked("POST /containers/create").await;
    assert_eq!(said, format!("using {}", port(&content).unwrap()));
    assert_eq!(content["Image"], "apicurio/apicurio-registry:3.0.9");
    assert_eq!(content["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostIp"], "127.0.0.1");
    assert!(!engine.asked.lock().unwrap().iter().any(|(request, _)| request.starts_with("DELETE")));

    user.kill().await.unwrap();
    let (delete, _) = engine.asked("DELETE /containers/").await;
    assert_eq!(delete, format!("DELETE /containers/{}?force=true&v=true", name(&create)));
}

#[tokio::test]
async fn a_container_goes_when_its_supervisor_is_killed() {
    let engine = Played::start(r#"{"Id":"played","Warnings":[]}"#);
    let mut user = engine.user();
    assert!(said(&mut user).await.starts_with("using "));
    let (create, _) = engine.asked("POST /containers/create").await;

    // The server under supervision: what is told to end when its supervisor dies.
    let folder = std::env::temp_dir().join(name(&create));
    // It may be written down a moment after the container answers.
    let written = async {
        loop {
            match std::fs::read_to_string(folder.join("pid")) {
                Ok(pid) if pid.ends_with('\n') => break pid,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let pid = timeout(Duration::from_secs(20), written).await.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
    let supervisor = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap();
    assert!(Command::new("kill").args(["-KILL", supervisor]).status().await.unwrap().success());

    engine.asked(&format!("DELETE /containers/{}", name(&create))).await;
    // The killed one left it behind.
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn an_engine_that_pings_and_then_talks_nonsense_is_named() {
    let engine = Played::start("<html>welcome</html>");
    let said = said(&mut engine.user()).await;
    assert!(said.starts_with("failed: apicurio-3.0.9-container did not start in apicurio/apicurio-registry:3.0.9: "));
    assert!(said.contains("failed to create a container"), "{said}");
    // Who knows what it has created.
    engine.asked("DELETE /containers/muster-tests-").await;
}
