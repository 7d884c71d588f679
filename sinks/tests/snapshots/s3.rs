//! The same on a server with S3's protocol.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pipeline::config;
use pipeline::snapshot::{Generation, Store, StoreSettings};

use super::site::Site;

/// A gateway in front of a folder; it ends with the test.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, folder: &std::path::Path) -> (Gateway, Store) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    std::fs::create_dir_all(folder.join("muster")).unwrap();
    let child = Command::new(program)
        .env("ROOT_ACCESS_KEY", "anchor")
        .env("ROOT_SECRET_KEY", "harbour-lights")
        .args(["--quiet", "--health", "/health", "--port", &format!("127.0.0.1:{port}"), "posix"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let gateway = Gateway(child);
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "the gateway doesn't listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = format!(
        "store.s3 = {{ bucket = \"muster\", prefix = \"site\", endpoint = \"http://127.0.0.1:{port}\", \
         access_key = {{ env = \"KEY\" }}, secret_key = {{ env = \"SECRET\" }} }}"
    );
    let settings = config::read("s3.toml", &text, StoreSettings::read).unwrap().unwrap();
    let env = |name: &str| Some(if name == "KEY" { "anchor" } else { "harbour-lights" }.to_owned());
    (gateway, Store::open(&settings, &env).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MUSTER_VERSITYGW: the program of an S3 gateway whose conditional puts are atomic"]
async fn a_bucket_holds_what_a_folder_holds() {
    let program = std::env::var("MUSTER_VERSITYGW").expect("MUSTER_VERSITYGW names the gateway's program");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, store) = start(&program, folder.path());
    let mut site = Site::new().await;
    site.store = store;
    site.settings.keep = 2;
    // Enough that the full list goes up in several parts.
    for n in 0..30_000 {
        site.put(n, "P1", None).await;
    }
    for day in 1..=3 {
        site.snapshot().await;
        assert_eq!(site.latest().await.generation, Generation(day));
        assert_eq!(site.read(None).await, site.table);
        site.verified().await;
        site.pass(24).await;
        for n in 0..40 {
            site.put(n * 7, "P2", None).await;
        }
        site.delete(13).await;
    }
    assert_eq!(site.store.generations().await.unwrap().len(), 2);
    site.complete().await;
    let (one, two) = (site.job(), site.job());
    let other = super::site::process(&site.log, &site.clock).await;
    // The second is told that somebody is at it, or finds the generation taken and goes on from there.
    let made = [one.make(&site.runtime, site.now()).await.is_ok(), two.make(&other, site.now()).await.is_ok()];
    assert!(made[0], "{made:?}");
    assert_eq!(site.read(None).await, site.table);
    site.verified().await;
}
