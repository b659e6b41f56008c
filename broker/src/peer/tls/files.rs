//! The three files of a broker's TLS: read, checked, and made into what handshakes need.
//!
//! Always: what comes out of here would be accepted by a broker with the same authorities. An error names
//! the property, the file and what to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use thiserror::Error as ThisError;

use super::failure::of_certificate;
use super::node::Certified;
use crate::config::BrokerConfig;

const CERTIFICATE: &str = "peer.tls.certificate.file";
const KEY: &str = "peer.tls.key.file";
const AUTHORITIES: &str = "peer.tls.ca.file";

/// Beyond the end of every certificate: the year 9999 ends before.
const AFTER_ALL: Duration = Duration::from_secs(300_000_000_000);

/// Why there can be no TLS between brokers. One line: what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{0}")]
pub struct TlsError(pub(super) String);

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authorities: PathBuf,
}

/// What is in them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<u8>,
}

/// What handshakes are made with.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    /// Whose certificate it is.
    pub(super) certified: Certified,
    /// When it ends, in seconds since 1970.
    pub(super) expires: u64,
}

impl Files {
    /// The files that are set; `None` if none is.
    ///
    /// # Errors
    /// Some are set, and not all.
    pub(super) fn of(config: &BrokerConfig) -> Result<Option<Self>, TlsError> {
        let all = [
            (CERTIFICATE, &config.peer_tls_certificate_file),
            (KEY, &config.peer_tls_key_file),
            (AUTHORITIES, &config.peer_tls_ca_file),
        ];
        let missing: Vec<&str> =
            all.iter().filter(|(_, path)| path.is_empty()).map(|(name, _)| *name).collect();
        if missing.len() == all.len() {
            return Ok(None);
        }
        if !missing.is_empty() {
            return Err(TlsError(format!(
                "TLS between brokers is set up in part: {} is missing; set {CERTIFICATE}, {KEY} and \
                 {AUTHORITIES}, or none of them",
                missing.join(" and ")
            )));
        }
        let [certificate, key, authorities] = all.map(|(_, path)| PathBuf::from(path));
        Ok(Some(Self { certificate, key, authorities }))
    }

    /// # Errors
    /// One cannot be read.
    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        let read = |name: &str, path: &Path| {
            std::fs::read(path).map_err(|error| {
                TlsError(format!("cannot read {name} {}: {error}", path.display()))
            })
        };
        Ok(Contents {
            certificate: read(CERTIFICATE, &self.certificate)?,
            key: read(KEY, &self.key)?,
            authorities: read(AUTHORITIES, &self.authorities)?,
        })
    }

    /// Makes what handshakes need of what was read.
    ///
    /// # Errors
    /// What was read is not what it should be, or does not fit together.
    pub(super) fn understand(&self, contents: &Contents) -> Result<Material, TlsError> {
        self.prepare(contents, check_own)
    }

    fn prepare(&self, contents: &Contents, check: Check) -> Result<Material, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&contents.certificate)
            .map_err(|reason| wrong(CERTIFICATE, &self.certificate, &reason))?;
        let key = key(&contents.key).map_err(|reason| wrong(KEY, &self.key, &reason))?;
        let roots = self.roots(contents)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| wrong(AUTHORITIES, &self.authorities, &error.to_string()))?;
        let nodes = NodeVerifier { roots, algorithms: provider.signature_verification_algorithms };
        let (certified, expires) = check(&chain, &*verifier, &nodes)
            .map_err(|reason| wrong(CERTIFICATE, &self.certificate, &reason))?;
        let unfit = |error: Error| self.unfit(&error);
        Ok(Material {
            server: server(&provider, verifier, &chain, &key).map_err(unfit)?,
            client: client(&provider, nodes, chain, key).map_err(unfit)?,
            certified,
            expires,
        })
    }

    /// With a certificate of which nothing is checked.
    #[cfg(test)]
    pub(super) fn unchecked(&self, contents: &Contents) -> Material {
        self.prepare(contents, |_, _, _| Ok((Certified::Anyone, 0))).unwrap()
    }

    fn roots(&self, contents: &Contents) -> Result<Arc<RootCertStore>, TlsError> {
        let wrong = |reason: &str| wrong(AUTHORITIES, &self.authorities, reason);
        let mut roots = RootCertStore::empty();
        for authority in certificates(&contents.authorities).map_err(|reason| wrong(&reason))? {
            roots.add(authority).map_err(|error| wrong(&error.to_string()))?;
        }
        Ok(Arc::new(roots))
    }

    fn unfit(&self, error: &Error) -> TlsError {
        let (key, certificate) = (self.key.display(), self.certificate.display());
        TlsError(match error {
            Error::InconsistentKeys(_) => format!(
                "{KEY} {key} is not the key of {CERTIFICATE} {certificate}: give the one the \
                 certificate was requested with"
            ),
            error => format!("{KEY} {key} cannot be used: {error}"),
        })
    }

    /// A certificate of another node than this one.
    pub(super) fn check_node(
        &self,
        certified: Certified,
        node: crate::base::BrokerId,
    ) -> Result<(), TlsError> {
        certified.check(Some(node)).map_err(|_| {
            let text = "is the certificate of another node: give this one its own, or one without \
                        the name of a node";
            let named = certified.node().map_or_else(String::new, |named| named.to_string());
            let at = self.certificate.display();
            TlsError(format!(
                "{CERTIFICATE} {at} is for node {named}, and this is {node}: it {text}"
            ))
        })
    }
}

fn wrong(name: &str, path: &Path, reason: &str) -> TlsError {
    TlsError(format!("{name} {}: {reason}", path.display()))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => {
            Err("there is no certificate in it; a file in PEM format has \
             a line -----BEGIN CERTIFICATE-----"
                .to_owned())
        }
        Ok(all) => Ok(all),
        Err(error) => Err(format!("it is damaged: {error}")),
    }
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => "there is no private key in it that can be \
             read without a passphrase; `openssl pkey -in KEY -out NEW` takes one off"
            .to_owned(),
        error => format!("it is damaged: {error}"),
    })
}

/// Judges a chain of certificates that is to be this broker's.
type Check = fn(
    &[CertificateDer<'static>],
    &dyn ClientCertVerifier,
    &NodeVerifier,
) -> Result<(Certified, u64), String>;

/// Whether others will accept this broker's own certificate; whose it is, and when it ends.
fn check_own(
    chain: &[CertificateDer<'static>],
    verifier: &dyn ClientCertVerifier,
    nodes: &NodeVerifier,
) -> Result<(Certified, u64), String> {
    let Some((own, rest)) = chain.split_first() else { return Err("it is empty".to_owned()) };
    let refused = |error: Error| match error {
        Error::InvalidCertificate(error) => of_certificate("the certificate", &error),
        error => error.to_string(),
    };
    let now = UnixTime::now();
    verifier.verify_client_cert(own, rest, now).map_err(refused)?;
    nodes.verify(own, rest, now).map_err(refused)?;
    // The checks that look at the end of a certificate tell it.
    let later = UnixTime::since_unix_epoch(AFTER_ALL);
    let expires = match verifier.verify_client_cert(own, rest, later) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            not_after.as_secs()
        }
        Ok(_) | Err(_) => u64::MAX,
    };
    Ok((Certified::of(own)?, expires))
}

/// Nothing is resumed: each connection is judged by the certificates of its time.
fn server(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.to_vec(), key.clone_key())?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client(
    provider: &Arc<CryptoProvider>,
    nodes: NodeVerifier,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(nodes))
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// Checks the certificate of a broker that is called: all but the name of its host, which means nothing
/// here. Which node it is for is checked against its greeting.
#[derive(Debug)]
struct NodeVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl NodeVerifier {
    fn verify(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(own)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, rest, now, algorithms)
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
