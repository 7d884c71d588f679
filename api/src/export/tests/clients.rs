//! The clients that the documentation shows, over a real connection.

use std::process::Stdio;

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::fixture::{Contents, SCOPE, Site};
use crate::export::{ExportOptions, serve};

const PYTHON: &str = "
import gzip, json, sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={'api-key': sys.argv[2], 'accept-encoding': 'gzip'})
with urllib.request.urlopen(request) as answer:
    assert answer.headers['content-encoding'] == 'gzip'
    body = json.load(gzip.GzipFile(fileobj=answer))
print(len(body['data']), body['meta']['date'])
";

/// What a program prints; nothing where this machine doesn't have it.
async fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(arguments).stdin(Stdio::null()).output().await {
        Ok(output) => output,
        Err(error) => {
            eprintln!("{program} isn't tried: {error}");
            return None;
        }
    };
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_and_python_read_what_is_sent() {
    let mut site = Site::new().await;
    // Joined from parts, some of them much larger than a piece.
    site.publish(&Contents { whole: false, filler: 30_000, ..Contents::default() }).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let stop = CancellationToken::new();
    let (pepper, store, operations) = (site.pepper.clone(), site.store.clone(), site.operations.clone());
    let listen = "127.0.0.1:0".parse().unwrap();
    let served = serve(listen, ExportOptions::default(), pepper, store, operations, stop.clone()).await.unwrap();
    let header = format!("api-key: {key}");
    for (query, records) in [("", 100), ("?depth=3", 30)] {
        let url = format!("http://{}/api/pis/bulk/employees{query}", served.address);
        if let Some(body) = run("curl", &["-sSf", "--compressed", "-H", &header, &url]).await {
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["data"].as_array().unwrap().len(), records);
        }
        let accept = "accept: application/x-ndjson";
        if let Some(lines) = run("curl", &["-sSf", "-H", accept, "-H", &header, &url]).await {
            assert_eq!(lines.lines().count(), records);
        }
        if let Some(printed) = run("python3", &["-c", PYTHON, &url, &key]).await {
            assert_eq!(printed.trim(), format!("{records} 2023-11-15T22:13:20.123Z"));
        }
    }
    stop.cancel();
    served.ended.await.unwrap();
    let exports = site.operations.exports("id-lviv", 10).await.unwrap();
    assert!(exports.iter().all(|export| export.status.as_deref() == Some("complete")), "{exports:?}");
}
