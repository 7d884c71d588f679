//! The same on a server with S3's protocol.

use pipeline::config;
use pipeline::snapshot::{Generation, Store, StoreSettings};
use services::S3;

use super::site::Site;

fn store(s3: &S3) -> Store {
    let text = format!(
        "store.s3 = {{ bucket = \"{}\", prefix = \"site\", endpoint = \"{}\", access_key = {{ env = \"KEY\" }}, \
         secret_key = {{ env = \"SECRET\" }} }}",
        S3::BUCKET,
        s3.url()
    );
    let settings = config::read("s3.toml", &text, StoreSettings::read).unwrap().unwrap();
    let env = |name: &str| Some(if name == "KEY" { S3::ACCESS_KEY } else { S3::SECRET_KEY }.to_owned());
    Store::open(&settings, &env).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go, to build a server with S3's protocol: cargo xtask ci --all"]
async fn a_bucket_holds_what_a_folder_holds() {
    let Some(s3) = S3::own().await.unwrap() else { return };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut site = Site::new().await;
    site.store = store(&s3);
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
