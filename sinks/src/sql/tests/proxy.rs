//! A proxy that loses the answer to a COMMIT.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes everything on until it is told to; then it passes the next COMMIT on, and loses the answer.
pub(super) async fn forgetful_proxy(server: &str, loses_commit: Arc<AtomicBool>) -> u16 {
    let server = server.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(pass_on(client, upstream, loses_commit.clone()));
        }
    });
    port
}

async fn pass_on(mut client: TcpStream, mut server: TcpStream, loses_commit: Arc<AtomicBool>) {
    let (mut asked, mut answered) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                let is_commit = asked[..read].windows(6).any(|word| word.eq_ignore_ascii_case(b"commit"));
                if server.write_all(&asked[..read]).await.is_err() { return }
                if is_commit && loses_commit.swap(false, Ordering::SeqCst) {
                    // The server has done it when it answers; the client never hears.
                    let _ = server.read(&mut answered).await;
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&answered[..read]).await.is_err() { return }
            }
        }
    }
}
