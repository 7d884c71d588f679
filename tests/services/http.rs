//! The few requests that starting and steering a service takes.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::ports;

/// One request to a service on loopback; anything but a success is an error.
pub(crate) async fn ask(port: u16, method: &str, path: &str, body: &str) -> Result<()> {
    let asking = async {
        let mut stream = ports::open(port).await?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(Duration::from_secs(10), asking).await.context("no answer in 10 s")??;
    let status = answer.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 2") {
        bail!("{method} {path} was answered with {status}");
    }
    Ok(())
}
