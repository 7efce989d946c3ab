//! TLS of the real world, by rustls with ring.

use std::{io, path::Path, sync::Arc};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, CertificateError, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::Tls;

/// What handshakes need. Reads files: call it where that may block.
pub(super) fn connector(tls: &Tls) -> io::Result<TlsConnector> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots(tls)?);
    let config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            let named = |error| io::Error::other(format!("{}: {error}", key.display()));
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| named(error.to_string()))?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(|error| named(error.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A failed handshake, in words that name the cure. Without them the same failure has another text every second.
pub(super) fn explained(error: io::Error, host: &str) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(wrong)) = cause else { return error };
    let reason = match wrong {
        CertificateError::UnknownIssuer => {
            "its issuer is unknown: name the authority that signed it as tls_ca_file".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired: renew it on the server, or correct the clock of this machine".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: correct the clock of this machine, or of the one that made it".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it was made for another name than {host:?}: connect by a name that stands in it")
        }
        other => other.to_string(),
    };
    io::Error::new(error.kind(), format!("the certificate of the server is refused: {reason}"))
}

fn roots(tls: &Tls) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &tls.ca_file {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
        }
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(io::Error::other("the system knows no certificate authorities: name one as tls_ca_file"));
    }
    Ok(roots)
}

fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let named = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", file.display()));
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| named(&error))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| named(&error))?;
    if certificates.is_empty() {
        return Err(named(&"holds no certificate"));
    }
    Ok(certificates)
}
