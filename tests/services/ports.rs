//! Free ports on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// Below the range from which systems take ports for outgoing connections (Linux begins at 32768), so that a server
/// that is stopped for a moment finds its port free when it comes back.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// Different ports that nobody listens on now. Somebody may be quicker: who starts a server tries again.
pub(crate) fn free(count: usize) -> Result<Vec<u16>> {
    let mut ports = Vec::new();
    for _ in 0..10_000 {
        let port = fastrand::u16(RANGE);
        let is_free = !ports.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free {
            ports.push(port);
        }
        if ports.len() == count {
            return Ok(ports);
        }
    }
    bail!("no free port on loopback between {} and {}", RANGE.start, RANGE.end)
}

/// A port that nobody listens on now, and that no outgoing connection takes: for a server of the test's own that is
/// stopped and started again.
pub fn free_port() -> Result<u16> {
    Ok(free(1)?[0])
}

/// Whether something accepts connections there.
pub(crate) async fn open(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connected = timeout(Duration::from_secs(2), TcpStream::connect(address)).await;
    connected.context("no answer in 2 s")?.with_context(|| format!("connecting to {address}"))
}

/// Whether something accepts connections at `host:port`, anywhere.
pub(crate) async fn reachable(host_and_port: &str) -> Result<()> {
    let connecting = async {
        let addresses: Vec<SocketAddr> = lookup_host(host_and_port).await?.collect();
        TcpStream::connect(&addresses[..]).await
    };
    let connected = timeout(Duration::from_secs(5), connecting).await;
    connected.context("no answer in 5 s")?.with_context(|| format!("connecting to {host_and_port}"))?;
    Ok(())
}
