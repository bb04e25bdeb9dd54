//! Boot files over TLS, for UEFI's HTTP boot with an authority enrolled. Scripts and the ramdisk stay on http: iPXE knows
//! no authority of ours, and the ramdisk proves rackd by itself.

use crate::config::HttpsConfig;
use anyhow::Context as _;
use axum::Router;
use farrier_identity::web::WebCertificate;
use farrier_netboot::{Https, http};
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// As firmware is told of it.
impl From<&HttpsConfig> for Https {
    fn from(config: &HttpsConfig) -> Self {
        Self { port: config.listen.port(), name: config.name.clone() }
    }
}

/// The server, bound; it runs until `shutdown`. `failed` hears of clients that did not come to an understanding with it.
/// `crowded` of those that have their share of its connections.
pub(crate) async fn serve<F, C>(
    config: &HttpsConfig,
    router: Router,
    (failed, crowded): (F, C),
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + use<F, C>>
where
    F: Fn(IpAddr, &str) + Clone + Send + Sync + 'static,
    C: Fn(IpAddr) + Send + Sync + 'static,
{
    let limits = http::Limits { header_timeout: handshake(config)?, ..http::Limits::default() };
    let certificate = WebCertificate::load(&config.certificate, &config.key).context("https")?;
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("https: cannot listen on {}", config.listen))?;
    let secure = move |stream| {
        let certificate = certificate.clone();
        async move { certificate.accept(stream).await }
    };
    tracing::info!(https = %config.listen, "boot files over https");
    Ok(http::serve_with(listener, secure, failed, crowded, router, limits, shutdown))
}

/// How long a client may take.
pub(crate) fn handshake(config: &HttpsConfig) -> anyhow::Result<Duration> {
    let seconds = config.handshake_seconds.unwrap_or(HANDSHAKE);
    anyhow::ensure!(
        (1..=MOST).contains(&seconds),
        "https: handshake_seconds: expected 1 to {MOST}, saw {seconds}"
    );
    Ok(Duration::from_secs(seconds))
}

/// Firmware on real processors takes one or two.
const HANDSHAKE: u64 = 10;
/// Nobody waits for a machine for so long.
const MOST: u64 = 600;

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_identity::Identity;
    use farrier_identity::ca::Authority;

    /// What curl makes of it, with that authority and no other.
    async fn curl(authority: &std::path::Path, url: &str) -> std::process::Output {
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sS", "--fail", "--max-time", "20", "--cacert"]).arg(authority).arg(url);
        curl.output().await.unwrap()
    }

    #[tokio::test]
    async fn curl_reads_over_https_what_the_authority_vouches_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (ours, _) = Authority::generate("boot").unwrap();
        let (other, _) = Authority::generate("other").unwrap();
        let hosts = ["127.0.0.1".to_owned()];
        let issued = ours.issue(&Identity::Rack("r1".into()), &hosts, Duration::from_secs(3600)).unwrap();
        for (name, text) in [
            ("cert.pem", &issued.cert_pem),
            ("key.pem", &issued.key_pem),
            ("ours.pem", &ours.cert_pem().to_owned()),
            ("other.pem", &other.cert_pem().to_owned()),
        ] {
            std::fs::write(path(name), text).unwrap();
        }
        // A port that is free now: the program takes it from its configuration.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = HttpsConfig {
            listen: free,
            certificate: path("cert.pem"),
            key: path("key.pem"),
            name: None,
            handshake_seconds: None,
        };
        let router = Router::new().route("/firmware/x", axum::routing::get(|| async { "a boot file" }));
        let shutdown = CancellationToken::new();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let failed = move |peer: IpAddr, why: &str| tell.send((peer, why.to_owned())).unwrap();
        let server = tokio::spawn(serve(&config, router, (failed, |_| ()), shutdown.clone()).await.unwrap());
        let url = format!("https://{free}/firmware/x");
        let read = curl(&path("ours.pem"), &url).await;
        assert_eq!(String::from_utf8_lossy(&read.stdout), "a boot file", "{read:?}");
        let stranger = curl(&path("other.pem"), &url).await;
        // CURLE_PEER_FAILED_VERIFICATION
        assert_eq!(stranger.status.code(), Some(60), "{stranger:?}");
        let (peer, why) = told.recv().await.unwrap();
        assert_eq!(peer, free.ip());
        assert!(why.contains("UnknownCA"), "the client's own word (RFC 8446 section 6.2, unknown_ca): {why}");
        let plain = curl(&path("ours.pem"), &format!("http://{free}/firmware/x")).await;
        assert!(!plain.status.success(), "{plain:?}");
        let again = serve(&config, Router::new(), (|_, _| (), |_| ()), shutdown.clone()).await;
        assert!(again.is_err(), "the port is taken");
        for seconds in [0, MOST + 1] {
            let config = HttpsConfig { handshake_seconds: Some(seconds), ..config.clone() };
            let refused = serve(&config, Router::new(), (|_, _| (), |_| ()), shutdown.clone()).await;
            let refused = refused.err().unwrap().to_string();
            assert!(refused.contains("handshake_seconds: expected 1 to 600"), "{refused}");
        }
        shutdown.cancel();
        server.await.unwrap();
    }
}
