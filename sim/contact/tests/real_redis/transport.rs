//! How the client reaches a real server: through TLS, through a Unix socket, as a user with few rights.

use std::{fs, path::Path};

use contact_cache::{
    Config, ContactCache, Placement, Source,
    env::{Env, Tls, TokioEnv},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use redis_launcher::{Program, Server, free_port};
use serde_json::json;

use crate::client::{PATIENCE, RIGHTS, at_rest, config, directory, name, named, open, open_with, uid};

/// An authority, and what it vouches for, as files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: std::path::PathBuf,
}

impl Authority {
    #[expect(clippy::disallowed_methods, reason = "files for a server of the test's own")]
    fn new(directory: &Path, file: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, format!("authority {file}"));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key")).expect("a certificate");
        let file = directory.join(file);
        fs::write(&file, issuer.pem()).expect("room for a file");
        Self { issuer, file }
    }

    /// Writes a certificate for this machine and its key; gives their names.
    #[expect(clippy::disallowed_methods, reason = "files for a server of the test's own")]
    fn vouch(&self, directory: &Path, holder: &str) -> [String; 2] {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        parameters.distinguished_name.push(DnType::CommonName, holder);
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        let files = ["pem", "key"].map(|kind| directory.join(format!("{holder}.{kind}")));
        fs::write(&files[0], certificate.pem()).expect("room for a file");
        fs::write(&files[1], key.serialize_pem()).expect("room for a file");
        files.map(|file| file.display().to_string())
    }
}

/// A server that also speaks TLS; at which port.
fn tls_server(redis: &Program, authority: &Authority, directory: &Path, clients: &str) -> (Server, u16) {
    let port = free_port();
    let [certificate, key] = authority.vouch(directory, "server");
    let ca = authority.file.display().to_string();
    let words = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        clients,
    ];
    let mut server = Server::absent(redis).with(words);
    server.start();
    (server, port)
}

fn through_tls(port: u16, tls: Tls, directory: &Path) -> Config {
    Config { tls, ..config(&format!("rediss://localhost:{port}"), directory) }
}

async fn away_because(cache: &ContactCache) -> String {
    let env = TokioEnv::new();
    loop {
        if let Some(reason) = cache.health().away_because {
            return reason;
        }
        assert!(env.now() < PATIENCE, "{:?}", cache.health());
        env.sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub(crate) async fn tls_with_an_authority_of_its_own(redis: &Program) {
    let directory = directory();
    let authority = Authority::new(directory.path(), "ca.pem");
    let (server, port) = tls_server(redis, &authority, directory.path(), "no");
    let trusting = Tls { ca_file: Some(authority.file.clone()), ..Tls::default() };
    let cache = open_with(through_tls(port, trusting, &directory.path().join("trusting"))).await;
    assert_eq!(cache.upsert(&uid("u"), &named("x")).await.expect("redis").placement, Placement::Shared);
    assert_eq!(name(&cache, "u").await, (Source::Shared, json!("x")));
    assert!(server.ask("EXISTS cc1:p:u").starts_with(":1"));

    // Somebody else's authority; and that of the system, which has never heard of this server.
    let foreign = Authority::new(directory.path(), "foreign.pem");
    for (number, ca_file) in [Some(foreign.file), None].into_iter().enumerate() {
        let directory = directory.path().join(number.to_string());
        let cache = open_with(through_tls(port, Tls { ca_file, ..Tls::default() }, &directory)).await;
        let reason = away_because(&cache).await;
        assert!(reason.contains("certificate") || reason.contains("tls_ca_file"), "{reason}");
        assert_eq!(cache.upsert(&uid("u"), &named("y")).await.expect("the disk").placement, Placement::Local);
    }
    let missing = Tls { ca_file: Some("/no/such/ca.pem".into()), ..Tls::default() };
    let cache = open_with(through_tls(port, missing, &directory.path().join("missing"))).await;
    let reason = away_because(&cache).await;
    assert!(reason.contains("/no/such/ca.pem"), "{reason}");
}

pub(crate) async fn tls_with_a_certificate_of_the_client(redis: &Program) {
    let directory = directory();
    let authority = Authority::new(directory.path(), "ca.pem");
    let (_server, port) = tls_server(redis, &authority, directory.path(), "yes");
    let [certificate, key] = authority.vouch(directory.path(), "client");
    let mut tls = Tls { ca_file: Some(authority.file.clone()), ..Tls::default() };
    let stranger = open_with(through_tls(port, tls.clone(), &directory.path().join("stranger"))).await;
    assert_eq!(stranger.upsert(&uid("u"), &named("x")).await.expect("the disk").placement, Placement::Local);
    (tls.cert_file, tls.key_file) = (Some(certificate.into()), Some(key.into()));
    let known = open_with(through_tls(port, tls, &directory.path().join("known"))).await;
    let written = known.upsert(&uid("u"), &named("x")).await.expect("redis");
    assert_eq!(written.placement, Placement::Shared, "{:?}", known.health());
}

pub(crate) async fn a_unix_socket(redis: &Program) {
    let directory = directory();
    let mut server = Server::at_socket(redis);
    server.start();
    let cache = open(&server.url(), directory.path()).await;
    assert_eq!(cache.upsert(&uid("u"), &named("x")).await.expect("redis").placement, Placement::Shared);
    server.kill();
    assert_eq!(name(&cache, "u").await, (Source::Local, json!("x")));
    server.start();
    at_rest(&cache).await;
    assert_eq!(name(&cache, "u").await, (Source::Shared, json!("x")));
}

pub(crate) async fn a_user_with_the_rights_that_operations_lists_and_no_others(redis: &Program) {
    let (server, directory) = (Server::running(redis), directory());
    assert_eq!(server.ask(&format!("ACL SETUSER app {RIGHTS}")), "+OK\r\n");
    let cache = open_with(config(&server.url_for("app:right@"), &directory.path().join("app"))).await;
    at_rest(&cache).await;
    for round in 0..2 {
        let number = round.to_string();
        assert_eq!(cache.upsert(&uid(&number), &named("x")).await.expect("redis").placement, Placement::Shared);
        assert_eq!(name(&cache, &number).await.0, Source::Shared);
        // A script that was forgotten, and data that was lost.
        assert_eq!(server.ask("SCRIPT FLUSH"), "+OK\r\n");
    }
    assert_eq!(cache.list().await.expect("redis").source, Source::Shared);
    assert_eq!(cache.remove(&uid("0")).await.expect("redis").placement, Placement::Shared);
    assert!(Box::pin(cache.clear()).await.expect("redis").complete);
    let expiring = Config {
        record_ttl: Some(std::time::Duration::from_mins(1)),
        ..config(&server.url_for("app:right@"), &directory.path().join("expiring"))
    };
    let expiring = open_with(expiring).await;
    assert_eq!(expiring.upsert(&uid("e"), &named("x")).await.expect("redis").placement, Placement::Shared);
    assert_eq!(server.ask("FLUSHALL"), "+OK\r\n");
    at_rest(&cache).await;
    assert!(server.ask("ACL LOG").starts_with("*0"), "{}", server.ask("ACL LOG"));

    let wrong = open_with(config(&server.url_for("app:hunter2@"), &directory.path().join("wrong"))).await;
    let reason = away_because(&wrong).await;
    assert!(reason.to_lowercase().contains("wrongpass") || reason.contains("auth"), "{reason}");
    let everything_told = format!("{:?} {reason}", wrong.health());
    assert!(!everything_told.contains("hunter2"), "{everything_told}");
}
