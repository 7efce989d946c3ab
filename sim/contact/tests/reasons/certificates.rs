//! The three ways in which a certificate is refused.

use std::{fs, path::Path};

use contact_cache::{Config, env::Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use redis_launcher::{Program, Server, free_port};

use crate::{
    assert_told,
    client::{directory, open_with},
    eager, with_log,
};

#[derive(Clone, Copy)]
enum Wrong {
    Issuer,
    Time,
    Name,
}

#[test]
fn a_refused_certificate_is_told_with_the_reason_and_the_cure() {
    for (wrong, reason) in [
        (Wrong::Issuer, "its issuer is unknown: name the authority that signed it as tls_ca_file"),
        (Wrong::Time, "it has expired: renew it"),
        (Wrong::Name, "it was made for another name than"),
    ] {
        with_log(async |log, redis| {
            let directory = directory();
            let (_server, port, ca_file) = serve(redis, directory.path(), wrong);
            let tls = Tls { ca_file: Some(ca_file), ..Tls::default() };
            let url = format!("rediss://localhost:{port}");
            let config = Config { tls, ..eager(&url, &directory.path().join("store")) };
            let cache = open_with(config).await;
            assert_told(&cache, &log, reason).await;
            let warnings = log.warnings();
            assert_eq!(warnings.len(), 1, "the same failure has one text: {warnings:?}");
        });
    }
}

/// A server whose certificate is wrong like this; its port; and the authority that a client trusts.
fn serve(redis: &Program, directory: &Path, wrong: Wrong) -> (Server, u16, std::path::PathBuf) {
    let [authority, other] = ["ca", "other"].map(|name| authority(directory, name));
    let key = KeyPair::generate().expect("a key");
    let name = if matches!(wrong, Wrong::Name) { "elsewhere.example" } else { "localhost" };
    let mut parameters = CertificateParams::new([name.to_owned()]).expect("a name");
    if matches!(wrong, Wrong::Time) {
        parameters.not_after = date_time_ymd(2020, 1, 1);
    }
    let certificate = parameters.signed_by(&key, &authority.0).expect("a certificate");
    let files = ["server.pem", "server.key"].map(|file| directory.join(file));
    write(&files[0], &certificate.pem());
    write(&files[1], &key.serialize_pem());
    let [certificate, key] = files.map(|file| file.display().to_string());
    let (port, ca) = (free_port(), authority.1.display().to_string());
    let arguments = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ];
    let mut server = Server::absent(redis).with(arguments);
    server.start();
    (server, port, if matches!(wrong, Wrong::Issuer) { other.1 } else { authority.1 })
}

fn authority(directory: &Path, name: &str) -> (CertifiedIssuer<'static, KeyPair>, std::path::PathBuf) {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, format!("authority {name}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key")).expect("a certificate");
    let file = directory.join(format!("{name}.pem"));
    write(&file, &issuer.pem());
    (issuer, file)
}

#[expect(clippy::disallowed_methods, reason = "files for a server of the test's own")]
fn write(file: &Path, text: &str) {
    fs::write(file, text).expect("room for a file");
}
