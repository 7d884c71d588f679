//! Runs a router on a socket of its own until it is stopped. Used by every simulator; knows none of them.
//!
//! Each server has its own thread and runtime: stopping drops them, and with them every connection, hung answer and
//! endless body. A client sees what it would see when a machine goes away.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A running simulator. Dropping it stops it; [`Server::stop`] also waits until the port is free again.
#[derive(Debug)]
pub struct Server {
    /// Where it listens: the port that was chosen when port 0 was asked for.
    pub addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    stopped: Option<oneshot::Receiver<()>>,
}

impl Server {
    /// Binds `addr` and answers from `router` on a thread of its own.
    ///
    /// # Errors
    /// When the address can't be bound or the thread can't be started.
    pub(crate) fn start(addr: SocketAddr, router: Router) -> io::Result<Server> {
        let socket = std::net::TcpListener::bind(addr)?;
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stop_asked) = oneshot::channel::<()>();
        let (report_stopped, stopped) = oneshot::channel::<()>();
        let listener = {
            let _inside = runtime.enter();
            ResettableListener(TcpListener::from_std(socket)?)
        };
        std::thread::Builder::new().name(format!("simulator {}", addr.port())).spawn(move || {
            runtime.block_on(async {
                let service = router.into_make_service_with_connect_info::<Connection>();
                tokio::select! {
                    // Never ends by itself: a listener's errors are retried inside.
                    _ = axum::serve(listener, service) => {}
                    // An error means that the handle is gone: the same wish.
                    _ = stop_asked => {}
                }
            });
            drop(runtime);
            // Nobody need be waiting.
            let _ = report_stopped.send(());
        })?;
        Ok(Server { addr, stop: Some(stop), stopped: Some(stopped) })
    }

    /// The base address for a client, without a slash at the end.
    pub fn url(&self) -> String {
        let host = match self.addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(host, self.addr.port()))
    }

    /// Stops at once, closing all connections, and returns when the port is free.
    pub async fn stop(mut self) {
        self.ask_to_stop();
        if let Some(stopped) = self.stopped.take() {
            // An error means that the thread ended without a word: stopped too.
            let _ = stopped.await;
        }
    }

    fn ask_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

/// The connection a request came on, for faults below HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    reset: Arc<AtomicBool>,
}

impl Connection {
    /// From now on nothing more is written: the next write resets the connection.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
    }
}

impl Connected<IncomingStream<'_, ResettableListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, ResettableListener>) -> Self {
        Connection { reset: Arc::clone(&stream.io().reset) }
    }
}

struct ResettableListener(TcpListener);

impl Listener for ResettableListener {
    type Io = ResettableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok((stream, addr)) => return (ResettableStream { stream, reset: Arc::default() }, addr),
                // Out of file handles or the like: give the others time to finish.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// A socket that can be told to end in a reset instead of an orderly close.
struct ResettableStream {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl ResettableStream {
    fn check(&self) -> io::Result<()> {
        if self.reset.load(Ordering::Acquire) {
            // Without lingering, closing sends RST.
            self.stream.set_zero_linger()?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for ResettableStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ResettableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
